-- Student's t, 97.5 % point, for 1 to 30 degrees of freedom; beyond, that of 30
CREATE MACRO student_975(freedom) AS [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
  2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042
][least(freedom, 30)];

-- worker_spread: one row per configuration with two or more workers that are ok: relative standard deviation between them, and the mean over them with its 95 % interval (Student's t on their logarithms, of these workers alone; tables and `compare` also use what other cells of the same framework and device tell)
CREATE VIEW worker_spread AS
WITH one AS (
  SELECT run, model, model_hash, device, any_value(device_name) AS device_name, variant, precision, batch_size, io, scenario, streams,
    target_rate_per_s, frontend, tuning, version, input, count(*) AS workers,
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

-- worth: what tuning buys: one row per configuration with several workers at both levels, stock and tuned: ratio of the throughputs (geometric means over workers) with its 95 % interval (Welch's t on the logarithms, of these workers alone)
CREATE VIEW worth AS
WITH one AS (
  SELECT run, model, model_hash, device, any_value(device_name) AS device_name, variant, version, precision, batch_size, io, input, scenario,
    streams, target_rate_per_s, frontend, tuning, count(*) AS n, avg(ln(images_per_s)) AS mean_log, var_samp(ln(images_per_s)) / count(*) AS error
  FROM results WHERE status = 'ok' AND images_per_s > 0
  GROUP BY run, model, model_hash, device, variant, version, precision, batch_size, io, input, scenario, streams, target_rate_per_s, frontend, tuning
  HAVING count(*) > 1
),
pair AS (
  SELECT tuned.* EXCLUDE (tuning, n, mean_log, error), stock.n AS stock_workers, tuned.n AS tuned_workers,
    exp(stock.mean_log) AS stock_images_per_s, exp(tuned.mean_log) AS tuned_images_per_s, tuned.mean_log - stock.mean_log AS log_ratio,
    tuned.error + stock.error AS error,
    -- Welch and Satterthwaite's degrees of freedom, rounded down
    greatest(1, coalesce(floor((tuned.error + stock.error) ** 2
      / nullif(tuned.error ** 2 / (tuned.n - 1) + stock.error ** 2 / (stock.n - 1), 0)), 1))::BIGINT AS freedom
  FROM one AS tuned JOIN one AS stock ON stock.tuning = 'stock' AND tuned.tuning = 'tuned' AND stock.run = tuned.run
    AND stock.model = tuned.model AND stock.model_hash IS NOT DISTINCT FROM tuned.model_hash AND stock.device = tuned.device
    AND stock.variant = tuned.variant AND stock.version IS NOT DISTINCT FROM tuned.version AND stock.precision = tuned.precision
    AND stock.batch_size = tuned.batch_size AND stock.io = tuned.io AND stock.input = tuned.input AND stock.scenario = tuned.scenario
    AND stock.streams IS NOT DISTINCT FROM tuned.streams AND stock.target_rate_per_s IS NOT DISTINCT FROM tuned.target_rate_per_s
    AND stock.frontend IS NOT DISTINCT FROM tuned.frontend
)
SELECT * EXCLUDE (log_ratio, error, freedom), exp(log_ratio) AS worth,
  exp(log_ratio - student_975(freedom) * sqrt(error)) AS worth_low, exp(log_ratio + student_975(freedom) * sqrt(error)) AS worth_high
FROM pair;
