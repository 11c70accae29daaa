# For the .bats files: tells a story on a machine of its own.
# shellcheck shell=bash

# on_a_machine: the story comes on standard input.
on_a_machine() { unshare --mount --net --pid --fork --kill-child --propagation private "$BATS_TEST_DIRNAME/machine" "$(cat)"; }
