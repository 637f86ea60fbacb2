# SPDX-License-Identifier: MIT
# The commands for people.  CMake presets do the building, ctest the testing,
# and the scripts in tools/ the rest; nothing else lives here.
# (make itself turns every failure into status 2: tools/run has the kernel's own.)

help:
	@tools/help

run:
	@tools/run

test:
	@tools/test

test-all:
	@tools/test-all

prove:
	@tools/prove

bench:
	@tools/bench

bench-process:
	@tools/bench-process

# PREFIX=/usr/local DESTDIR=
install:
	@tools/install

clean:
	@rm -rf build

.PHONY: help run test test-all prove bench bench-process install clean
