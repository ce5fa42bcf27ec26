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
