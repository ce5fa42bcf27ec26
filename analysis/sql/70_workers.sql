-- Student's t, 97.5 % point, for 1 to 30 degrees of freedom; beyond, that of 30
CREATE OR REPLACE MACRO student_975(freedom) AS [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
  2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042
][least(freedom, 30)];

-- worker_spread: one row per configuration with two or more workers that are ok: relative standard deviation between them, and the mean over them with its 95 % interval (Student's t on their logarithms, of these workers alone; tables and `compare` also use what other cells of the same framework and device tell)
CREATE OR REPLACE VIEW worker_spread AS
WITH one AS (
  SELECT run, model, model_hash, device, any_value(device_name) AS device_name, variant, precision, batch_size, io, scenario, streams,
    target_rate_per_s, frontend, tuning, version, input, any_value(known_wrong) AS known_wrong, count(*) AS workers,
    avg(images_per_s) AS images_per_s, stddev_samp(ln(images_per_s)) AS images_per_s_spread,
    CASE WHEN count(median_ms) = count(*) THEN avg(median_ms) END AS median_ms,
    CASE WHEN count(median_ms) = count(*) THEN stddev_samp(ln(median_ms)) END AS median_ms_spread,
    CASE WHEN count(joules_per_image) = count(*) THEN avg(joules_per_image) END AS joules_per_image,
    CASE WHEN count(joules_per_image) = count(*) THEN stddev_samp(ln(joules_per_image)) END AS joules_per_image_spread
  FROM results
  WHERE status = 'ok' AND images_per_s > 0 AND coalesce(median_ms, 1) > 0 AND coalesce(joules_per_image, 1) > 0
  GROUP BY run, model, model_hash, device, variant, precision, batch_size, io, scenario, streams, target_rate_per_s, frontend, tuning, version, input
  HAVING count(*) > 1
)
SELECT *,
  images_per_s * exp(-student_975(workers - 1) * images_per_s_spread / sqrt(workers)) AS images_per_s_low,
  images_per_s * exp(student_975(workers - 1) * images_per_s_spread / sqrt(workers)) AS images_per_s_high,
  median_ms * exp(-student_975(workers - 1) * median_ms_spread / sqrt(workers)) AS median_ms_low,
  median_ms * exp(student_975(workers - 1) * median_ms_spread / sqrt(workers)) AS median_ms_high,
  joules_per_image * exp(-student_975(workers - 1) * joules_per_image_spread / sqrt(workers)) AS joules_per_image_low,
  joules_per_image * exp(student_975(workers - 1) * joules_per_image_spread / sqrt(workers)) AS joules_per_image_high
FROM one;

-- level_steps: what a level of tuning buys over the one below it: one row per configuration at both levels (stock and tuned, tuned and rewritten), of one run or, where that has no lower level, of two runs of one known version on the same GPU with the same driver, power limit and runner (below_run, the newest by created_utc; the interval lacks what differs from run to run), cell_key the upper one's first: ratio of the throughputs (means over workers) with its 95 % interval (Welch's t on the logarithms, of these workers alone), NULL where either level has one worker
CREATE OR REPLACE VIEW level_steps AS
WITH one AS (
  SELECT run, model, model_hash, device, any_value(device_name) AS device_name, any_value(device_uuid) AS device_uuid,
    any_value(framework_version) AS framework_version, any_value(created_utc) AS created_utc, any_value(driver) AS driver,
    any_value(power_limit_mw) AS power_limit_mw, any_value(runner) AS runner, variant, version, precision, batch_size, io, input, scenario, streams, target_rate_per_s, frontend, tuning, min(cell_key) AS cell_key, count(*) AS n, avg(images_per_s) AS mean,
    var_samp(ln(images_per_s)) / count(*) AS error
  FROM results WHERE status = 'ok' AND images_per_s > 0 AND known_wrong IS NULL
  GROUP BY run, model, model_hash, device, variant, version, precision, batch_size, io, input, scenario, streams, target_rate_per_s, frontend, tuning
),
pair AS (
  SELECT upper.* EXCLUDE (device_uuid, framework_version, created_utc, driver, power_limit_mw, runner, tuning, n, mean, error), lower.run AS below_run, upper.tuning AS level,
    lower.tuning AS below, lower.n AS below_workers, upper.n AS workers,
    lower.mean AS below_images_per_s, upper.mean AS images_per_s, ln(upper.mean / lower.mean) AS log_ratio,
    upper.error + lower.error AS error,
    -- Welch and Satterthwaite's degrees of freedom, rounded down
    greatest(1, coalesce(floor((upper.error + lower.error) ** 2
      / nullif(upper.error ** 2 / (upper.n - 1) + lower.error ** 2 / (lower.n - 1), 0)), 1))::BIGINT AS freedom
  FROM one AS upper JOIN one AS lower ON (lower.tuning, upper.tuning) IN (('stock', 'tuned'), ('tuned', 'rewritten'))
    AND (lower.run = upper.run AND lower.device = upper.device OR lower.run <> upper.run AND lower.device_uuid = upper.device_uuid
      AND lower.framework_version = upper.framework_version AND lower.driver IS NOT DISTINCT FROM upper.driver
      AND lower.power_limit_mw IS NOT DISTINCT FROM upper.power_limit_mw AND lower.runner IS NOT DISTINCT FROM upper.runner)
    AND lower.model = upper.model AND lower.model_hash IS NOT DISTINCT FROM upper.model_hash
    AND lower.variant = upper.variant AND lower.version IS NOT DISTINCT FROM upper.version AND lower.precision = upper.precision
    AND lower.batch_size = upper.batch_size AND lower.io = upper.io AND lower.input = upper.input AND lower.scenario = upper.scenario
    AND lower.streams IS NOT DISTINCT FROM upper.streams AND lower.target_rate_per_s IS NOT DISTINCT FROM upper.target_rate_per_s
    AND lower.frontend IS NOT DISTINCT FROM upper.frontend
  -- of several runs with the lower level its own, else the newest
  QUALIFY row_number() OVER (PARTITION BY upper.run, upper.cell_key ORDER BY lower.run = upper.run DESC, lower.created_utc DESC, lower.run DESC) = 1
)
SELECT * EXCLUDE (log_ratio, error, freedom), exp(log_ratio) AS ratio,
  CASE WHEN workers > 1 AND below_workers > 1 THEN exp(log_ratio - student_975(freedom) * sqrt(error)) END AS ratio_low,
  CASE WHEN workers > 1 AND below_workers > 1 THEN exp(log_ratio + student_975(freedom) * sqrt(error)) END AS ratio_high
FROM pair;

-- worth: what tuning buys: of level_steps those from stock to tuned with several workers at both levels, under names of their own
CREATE OR REPLACE VIEW worth AS
SELECT run, model, model_hash, device, device_name, variant, version, precision, batch_size, io, input, scenario, streams, target_rate_per_s, frontend,
  below_workers AS stock_workers, workers AS tuned_workers, below_images_per_s AS stock_images_per_s, images_per_s AS tuned_images_per_s,
  ratio AS worth, ratio_low AS worth_low, ratio_high AS worth_high
FROM level_steps WHERE level = 'tuned' AND workers > 1 AND below_workers > 1;
