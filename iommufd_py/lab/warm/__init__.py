# SPDX-License-Identifier: MIT
"""Warm guests: a guest that stays up and runs one command after the other.

A keeper process holds the guest (keeper). In the guest an agent waits for jobs (agent). Host and guest talk through
files in a directory that both see, the spool: that works over 9p and over hostfs alike, and needs no device.

    NAME.job      a shell script; the host renames it into place, the agent runs it
    NAME.out      its output, and NAME.err its errors, as they come
    NAME.cancel   the host wants it ended
    NAME.status   its exit status; the agent renames it into place at the end
    ready         the agent waits for jobs
"""
