DROP TABLE tag_assignments;
DROP TABLE update_tags;
DROP TABLE image_updates;
