# SPDX-License-Identifier: MIT
# Run 'iommufd validate', and turn its JUnit report into tmt's custom results.
set -u
data=${TMT_TEST_DATA:?is set by tmt: run this by 'tmt run'}
device=${IOMMUFD_DEVICE:-mock}
bind=
[ "$device" = mock ] || bind=--bind

iommufd device restore --all || exit 1
iommufd validate --device "$device" $bind --junit >"$data/validate.xml" 2>"$data/validate.log"
status=$?
cat "$data/validate.log"
python3 "$(dirname "$0")/results.py" "$data/validate.xml" "$data/results.json" "$status"
