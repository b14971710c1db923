# SPDX-License-Identifier: MIT
"""Warm guests: a guest that stays up and runs one command after the other.

A process on the host, the keeper, holds the guest. A process in the guest, the agent, runs the jobs. Both communicate
through files in a shared directory, the spool. This works over 9p and over hostfs, and needs no device.

    NAME.job      a shell script; the host renames it into place, the agent runs it
    NAME.out      the output of the script
    NAME.err      the errors of the script
    NAME.cancel   tells the agent to end the job
    NAME.status   its exit status; the agent renames it into place at the end
    ready         the agent waits for jobs
"""
