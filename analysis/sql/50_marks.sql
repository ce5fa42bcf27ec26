-- marks: one row per cell and mark, with the sentence why; nothing is dropped because of a mark
CREATE TABLE marks AS
SELECT run, cell_key, 'noisy' AS mark, 'stopped as noisy' AS why FROM results WHERE stop_reason = 'noisy'
UNION ALL
SELECT run, cell_key, 'budget', 'stopped by its time budget' FROM results WHERE stop_reason = 'budget'
UNION ALL
SELECT run, cell_key, 'unsteady', 'the parts of the window differ' FROM results WHERE stop_reason = 'unsteady'
UNION ALL
-- a cell without a measurement has nothing that the load could have disturbed
SELECT run, cell_key, 'load',
  printf('others kept %.1f and the worker %.1f of %d CPUs busy', cpus_other, cpus_own, logical_cores)
FROM results WHERE status = 'ok' AND cpus_other > getvariable('other_cpus') AND cpus_own + cpus_other > getvariable('busy_share') * logical_cores
UNION ALL
-- of runs that did not count it in the window
SELECT run, cell_key, 'load',
  printf('load average %.1f on %d cores', greatest(load_average_start, load_average_end), logical_cores)
FROM results WHERE status = 'ok' AND cpus_other IS NULL AND greatest(load_average_start, load_average_end) > logical_cores
UNION ALL
SELECT run, cell_key, 'quota', printf('%.2f CPUs of %d', cpu_quota, coalesce(usable_cores, logical_cores))
FROM results WHERE cpu_quota < coalesce(usable_cores, logical_cores)
UNION ALL
SELECT run, cell_key, 'cores', cores_short FROM results WHERE cores_short IS NOT NULL
UNION ALL
SELECT run, cell_key, 'slowdown', printf('%.1f %% of the window', 100 * share_any_hardware_slowdown)
FROM conditions WHERE share_any_hardware_slowdown > 0.01
UNION ALL
SELECT run, cell_key, 'energy_suspect', string_agg(class || ': ' || suspect, '; ' ORDER BY class)
FROM energy WHERE suspect IS NOT NULL GROUP BY ALL
UNION ALL
SELECT run, cell_key, 'energy_integral', 'integral of ' || coalesce(power_source, 'unnamed') || ' power'
FROM energy WHERE class = 'gpu' AND basis = 'integral'
UNION ALL
SELECT run, cell_key, 'energy_coarse',
  string_agg(printf('%s: %.2f J, give or take %.2f J', class, gross_j, uncertainty_j)
    || coalesce(printf(', net %.2f J, give or take %.2f J', net_j, net_uncertainty_j), ''), '; ' ORDER BY class)
FROM energy WHERE uncertainty_j > 0.02 * gross_j OR net_uncertainty_j > 0.02 * abs(net_j) GROUP BY ALL
UNION ALL
SELECT run, cell_key, 'no_power', why FROM unmetered
UNION ALL
SELECT run, cell_key, 'no_power', 'the sidecar recorded nothing: ' || no_power
FROM results ANTI JOIN unmetered USING (run, cell_key) ANTI JOIN (FROM energy WHERE class = 'gpu') AS metered USING (run, cell_key)
WHERE no_power IS NOT NULL AND device <> 'cpu' AND status = 'ok'
UNION ALL
SELECT run, cell_key, 'warm', coalesce(printf('%.0f C instead of %.0f C', temperature_c, target_c), 'temperature unknown')
FROM cooling WHERE temperature_c IS NULL OR temperature_c > target_c
UNION ALL
SELECT run, cell_key, 'foreign_processes', printf('%d at the begin of the run', foreign_processes)
FROM results WHERE foreign_processes > 0 AND device <> 'cpu'
UNION ALL
SELECT run, cell_key, 'gaps', printf('%.1f %% of the window', 100 * (1 - coverage / coalesce(streams, 1)))
FROM results WHERE coverage < 0.95 * coalesce(streams, 1) AND scenario <> 'server'
UNION ALL
SELECT run, cell_key, 'stalled', printf('%.2f s in all, %.2f s at a time; %.1f images/s without', stalled_s, longest_stall_s, images_per_s_without_stalls)
FROM results WHERE stalled_s > 0
UNION ALL
SELECT m.run, m.cell_key, 'outside', 'window and measure phase do not agree'
FROM measured AS m JOIN phases AS p USING (run, cell_key)
WHERE m.window_start_ns < p.measure_start_ns OR m.window_end_ns > p.measure_end_ns
UNION ALL
SELECT run, cell_key, 'input_kept', known_wrong FROM results WHERE known_wrong IS NOT NULL
UNION ALL
SELECT run, cell_key, 'parity_failed', message FROM results WHERE status = 'parity_failed';
