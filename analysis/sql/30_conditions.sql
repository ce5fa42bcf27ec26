-- What the GPU was doing during the measured window of each cell. A reading's state is held until the next one.
-- Bits as in NVML's nvmlClocksEventReason*.
INSERT INTO conditions BY NAME
WITH held AS (
  SELECT stream, t_ns, power_mw, sm_clock_mhz, memory_clock_mhz, temperature_c, event_reasons, memory_used_bytes,
    gpu_utilization_percent,
    lead(t_ns) OVER (PARTITION BY stream ORDER BY t_ns) AS next_ns
  FROM batch.reading WHERE class = 'gpu' AND event_reasons IS NOT NULL
),
inside AS (
  SELECT w.run, w.cell_key, held.*, least(coalesce(next_ns, w.end_ns), w.end_ns) - held.t_ns AS length_ns
  FROM held ASOF JOIN (SELECT * FROM batch.energy_window WHERE purpose = 'measure' AND class = 'gpu') AS w
    ON held.stream = w.stream AND held.t_ns >= w.start_ns
  WHERE held.t_ns < w.end_ns
)
SELECT run, cell_key, count(*) AS readings,
  sum(length_ns * ((event_reasons & 1) > 0)::INTEGER) / sum(length_ns) AS share_idle,
  sum(length_ns * ((event_reasons & 2) > 0)::INTEGER) / sum(length_ns) AS share_application_clocks,
  sum(length_ns * ((event_reasons & 4) > 0)::INTEGER) / sum(length_ns) AS share_power_cap,
  sum(length_ns * ((event_reasons & 8) > 0)::INTEGER) / sum(length_ns) AS share_hardware_slowdown,
  sum(length_ns * ((event_reasons & 16) > 0)::INTEGER) / sum(length_ns) AS share_sync_boost,
  sum(length_ns * ((event_reasons & 32) > 0)::INTEGER) / sum(length_ns) AS share_software_thermal,
  sum(length_ns * ((event_reasons & 64) > 0)::INTEGER) / sum(length_ns) AS share_hardware_thermal,
  sum(length_ns * ((event_reasons & 128) > 0)::INTEGER) / sum(length_ns) AS share_power_brake,
  sum(length_ns * ((event_reasons & 256) > 0)::INTEGER) / sum(length_ns) AS share_display_clocks,
  sum(length_ns * ((event_reasons & (8 | 64 | 128)) > 0)::INTEGER) / sum(length_ns) AS share_any_hardware_slowdown,
  median(sm_clock_mhz) AS sm_clock_median_mhz, min(sm_clock_mhz) AS sm_clock_min_mhz, max(sm_clock_mhz) AS sm_clock_max_mhz,
  median(memory_clock_mhz) AS memory_clock_median_mhz,
  arg_min(temperature_c, t_ns) AS temperature_start_c, arg_max(temperature_c, t_ns) AS temperature_end_c,
  max(temperature_c) AS temperature_max_c, max(memory_used_bytes) AS memory_used_max_bytes,
  median(gpu_utilization_percent) AS gpu_utilization_median_percent
FROM inside GROUP BY run, cell_key;
