DROP FUNCTION leads(text, bigint);
