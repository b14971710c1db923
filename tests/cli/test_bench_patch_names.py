# SPDX-License-Identifier: MIT
"""The names of the kernels that `iommufd bench patch` compares."""

from iommufd_py.cli.bench.patch import _variants


def test_kernels_have_short_names_that_differ() -> None:
    """The names become those of the result files. The lab calls every kernel that it builds 'linux'."""
    labels = [one.label for one in _variants(True, False, ["stock", "patched"])[1]]
    assert labels == ["stock", "patched", "patched coherent"]
    labels = [one.label for one in _variants(True, False, ["stock", "/cache/1a/linux"])[1]]
    assert labels == ["stock", "linux"]
    labels = [one.label for one in _variants(True, False, ["/cache/1a/linux", "/cache/2b/linux"])[1]]
    assert labels == ["1a/linux", "2b/linux"]
    labels = [one.label for one in _variants(True, False, ["/one/1a/linux", "/two/1a/linux"])[1]]
    assert labels == ["one/1a/linux", "two/1a/linux"]
