-- rows
SELECT COUNT(*) AS n FROM lake.t
-- segments
SELECT g, COUNT(*) AS n FROM (SELECT "group" AS g FROM lake.t) AS a GROUP BY g LIMIT 200
-- map
SELECT t, MIN(x) AS lo, MAX(x) AS hi, COUNT(*) AS n FROM ( SELECT x, NTILE(64) OVER (ORDER BY x) AS t FROM ( SELECT CAST("a ""b"" `c`" AS DOUBLE) AS x FROM lake.t LIMIT 20000) AS a WHERE ABS(x) <= 1E300) AS b GROUP BY t
-- cells
SELECT k, COUNT(*) AS n, SUM(z) AS s, SUM(z * z) AS q, MIN(x) AS lo, MAX(x) AS hi FROM ( SELECT x, z, CAST(FLOOR((SIGN(z) * (1E0 - 1E0 / (1E0 + ABS(z))) + 1E0) * 2048.0E0) AS SMALLINT) AS k FROM ( SELECT x, (x - (-1.5E0)) * 8.0E0 AS z FROM ( SELECT CAST("a ""b"" `c`" AS DOUBLE) AS x FROM lake.t) AS a WHERE ABS(x) <= 1.25E147) AS b) AS c GROUP BY k
-- cells by segment
SELECT g, k, COUNT(*) AS n, SUM(z) AS s, SUM(z * z) AS q, MIN(x) AS lo, MAX(x) AS hi FROM ( SELECT g, x, z, CAST(FLOOR((SIGN(z) * (1E0 - 1E0 / (1E0 + ABS(z))) + 1E0) * 2048.0E0) AS SMALLINT) AS k FROM ( SELECT g, x, (x - (-1.5E0)) * 8.0E0 AS z FROM ( SELECT "group" AS g, CAST("a ""b"" `c`" AS DOUBLE) AS x FROM lake.t) AS a WHERE ABS(x) <= 1.25E147) AS b) AS c GROUP BY g, k
-- present
SELECT COUNT(x) AS n FROM (SELECT CAST("a ""b"" `c`" AS DOUBLE) AS x FROM lake.t) AS a
-- values
SELECT x, COUNT(*) AS n FROM (SELECT CAST("a ""b"" `c`" AS DOUBLE) AS x FROM lake.t) AS a WHERE (x >= (-1.0E0) AND x <= 2.5E0) OR (x >= 1E300 AND x <= 2E300) GROUP BY x
-- categories
SELECT v, n, COUNT(v) OVER () AS d, SUM(n) OVER () AS t FROM ( SELECT v, COUNT(*) AS n FROM (SELECT "a ""b"" `c`" AS v FROM lake.t) AS a GROUP BY v) AS b ORDER BY CASE WHEN v IS NULL THEN 0 ELSE 1 END, n DESC, v LIMIT 1001
-- categories by segment
SELECT g, v, n, d, t FROM ( SELECT g, v, n, COUNT(v) OVER (PARTITION BY g) AS d, SUM(n) OVER (PARTITION BY g) AS t, ROW_NUMBER() OVER (PARTITION BY g ORDER BY CASE WHEN v IS NULL THEN 0 ELSE 1 END, n DESC, v) AS r FROM ( SELECT g, v, COUNT(*) AS n FROM (SELECT "group" AS g, "a ""b"" `c`" AS v FROM lake.t) AS a GROUP BY g, v) AS b) AS c WHERE r <= 1001
-- among
SELECT v, COUNT(*) AS n FROM (SELECT "a ""b"" `c`" AS v FROM lake.t) AS a WHERE v IN ('it''s', 'back\slash', 'line
break', '日本') GROUP BY v
-- seconds of date
CAST(EPOCH_US(CAST("c" AS TIMESTAMP)) AS DOUBLE) / 1E6
-- seconds of time
CAST(EPOCH_US("c") AS DOUBLE) / 1E6
-- seconds of timestamp
CAST(EPOCH_US("c") AS DOUBLE) / 1E6
-- seconds of timestamptz
CAST(EPOCH_US(CAST("c" AS TIMESTAMPTZ)) AS DOUBLE) / 1E6
-- seconds of interval
CAST(EPOCH_US("c") AS DOUBLE) / 1E6
