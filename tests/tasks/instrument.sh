#!/bin/sh
# What cargo calls instead of rustc for the crates of this workspace, and only for them (RUSTC_WORKSPACE_WRAPPER): the
# compiler counts which of their lines run. Dependencies stay as they are, and are compiled once for all tests.
exec "$@" -Cinstrument-coverage
