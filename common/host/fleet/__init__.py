"""One sweep over many GPU hosts, on Ray: framewatt describes cells and collects files, Ray starts tasks and moves bytes.

```
 invoke fleet sweep (loop.py)                          one host with a free GPU of the wanted accelerator
 ┌───────────────────────────────┐                    ┌────────────────────────────────────────────────┐
 │ schedule.py   who does what   │                    │ Ray's worker: on_host.py, shipped by value     │
 │ collect.py    files, hashes   │  files, events     │   │ JSON lines      ▲ files                    │
 │ progress.py   what people see │ <───────────────── │   ▼                 │                          │
 │      │ pipe                   │   object store     │ agent.py of the host's own checkout            │
 │ ray_process.py   a process that  │ ─────────────────> │   = common/host/bench/command.py with its runner,      │
 │               alone knows Ray │   tasks            │     sidecar, locks, in a scratch run folder    │
 └───────────────────────────────┘                    └────────────────────────────────────────────────┘
```
"""
