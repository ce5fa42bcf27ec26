"""One sweep over many GPU hosts, on Ray: framewatt describes cells and collects files, Ray starts tasks and moves bytes.

```
 invoke fleet sweep (head/loop.py)                      one host with a free GPU of the wanted accelerator
 ┌──────────────────────────────────┐                   ┌─────────────────────────────────────────────────┐
 │ schedule.py      who does what   │                   │ Ray's worker: worker/on_host.py, sent by value  │
 │ collect.py       files, hashes   │  files, events    │   │ JSON lines      ▲ files                     │
 │ progress.py      what people see │ <──────────────── │   ▼                 │                           │
 │      │ pipe                      │   object store    │ worker/agent.py of the host's own checkout      │
 │ ray_process.py   a process that  │ ────────────────> │   = what `invoke bench` does, with its runner,  │
 │                  alone knows Ray │   tasks           │     sidecar, locks, in a scratch run folder     │
 └──────────────────────────────────┘                   └─────────────────────────────────────────────────┘
```
"""
