DROP TABLE image_scans;
DROP FUNCTION image_scans_tell();
