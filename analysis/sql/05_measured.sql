-- What is left of the files of many rows: one row for each cell. 10_samples to 30_conditions find it.

-- measured: one row per cell with inferences: bounds of its window, latency quantiles 0.5, 0.9, 0.95, 0.99, 0.999 in ns;
-- stalls are times of more than 3 % of the window in which nothing was finished, less what is usual between two ends
CREATE TABLE measured (
  run VARCHAR, cell_key VARCHAR, n BIGINT, window_start_ns BIGINT, window_end_ns BIGINT, busy_ns DOUBLE, mean_ns DOUBLE,
  min_ns DOUBLE, max_ns DOUBLE, scatter_ns DOUBLE, quantile_ns DOUBLE[],
  stalled_ns DOUBLE, longest_stall_ns DOUBLE,
  server_inferences BIGINT, arrivals_ns BIGINT, mean_wait_ns DOUBLE, wait_quantile_ns DOUBLE[], serve_quantile_ns DOUBLE[]
);

-- energy: one row per cell and class of meter (gpu, package, dram), as 25_energy_choice.sql finds it
CREATE TABLE energy (
  run VARCHAR, cell_key VARCHAR, class VARCHAR, meters BIGINT, seconds DOUBLE, counter_j DOUBLE, integral_j DOUBLE,
  basis VARCHAR, method VARCHAR, power_source VARCHAR, gross_j DOUBLE, idle_w DOUBLE, idle_before_w DOUBLE,
  idle_after_w DOUBLE, idle_without_context_w DOUBLE, net_j DOUBLE, images DOUBLE, longest_gap_s DOUBLE, uncertainty_j DOUBLE,
  net_uncertainty_j DOUBLE, suspect VARCHAR
);

-- unmetered: one row per cell without energy in a run whose meter reported some at other times, with the sentence why
CREATE TABLE unmetered (run VARCHAR, cell_key VARCHAR, why VARCHAR);

-- conditions: one row per cell with GPU readings: shares of the window by clock event reason, clocks, temperatures
CREATE TABLE conditions (
  run VARCHAR, cell_key VARCHAR, readings BIGINT, share_idle DOUBLE, share_application_clocks DOUBLE, share_power_cap DOUBLE,
  share_hardware_slowdown DOUBLE, share_sync_boost DOUBLE, share_software_thermal DOUBLE, share_hardware_thermal DOUBLE,
  share_power_brake DOUBLE, share_display_clocks DOUBLE, share_any_hardware_slowdown DOUBLE,
  sm_clock_median_mhz DOUBLE, sm_clock_min_mhz BIGINT, sm_clock_max_mhz BIGINT, memory_clock_median_mhz DOUBLE,
  temperature_start_c BIGINT, temperature_end_c BIGINT, temperature_max_c BIGINT, memory_used_max_bytes BIGINT,
  gpu_utilization_median_percent DOUBLE
);

-- input_copied: one row per cell whose traced window shows that each inference copied the input to the GPU; looked for where it
-- decides whether the cell is known to be wrong (40_cells.sql)
CREATE TABLE input_copied (run VARCHAR, cell_key VARCHAR);
