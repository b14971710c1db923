# SPDX-License-Identifier: MIT
"""A command line that a file keeps has no secret in it."""

from iommufd_py.base.command_line import without_secrets

TOKEN = "52ac9bff-3a88-4fbd-901a-0d767c3b6c97"


def test_the_token_is_left_out_and_nothing_else() -> None:
    for words in (["--vf-token", TOKEN], [f"--vf-token={TOKEN}"]):
        kept = without_secrets(["iommufd", "map", *words, "--size", "4K"])
        assert TOKEN not in " ".join(kept)
        assert kept[:3] + kept[-2:] == ["iommufd", "map", words[0].replace(TOKEN, "..."), "--size", "4K"]
    plain = ["iommufd", "bench", "run", "--label", "--vf-tokens", "--size=4K", ""]
    assert without_secrets(plain) == plain
    assert without_secrets(["iommufd", "map", "--vf-token"]) == ["iommufd", "map", "--vf-token"]
