"""One run of a job, from its prompts to committed parts.

api              run_job, the way in, and the summary it returns
plan             a job's prompts as calls to make
remaining_calls  what earlier sessions of a run left to make
resources        what a job names, opened: transport, cache, budget
session          one session: lookahead -> asker -> buffer -> commit
lookahead        cached answers, read before they are needed
asker            one request to a durable answer; `retry` repeats a call, `cache_thread` reads and writes
buffer           outcomes on their way into a part
commit           a part, decoded and written
first_outcomes   whether the first calls show that no other will be of use
forbidden_calls  whether a 403 means the key or one prompt
prompt_scoring   whether an answer scores the text that was sent
dry_run          what a job would ask and cost
record           a run that writes fixtures
telemetry        OpenTelemetry around each call
interrupts       Ctrl-C and SIGTERM
memory_settings  what a run sets in its process
"""
