-- The year up to the start of the day before yesterday, then the indexes of the log.
SELECT demo.insert_requests('-infinity', :'last_hour'::timestamp::date - 2, false);
ALTER TABLE public.log ADD PRIMARY KEY (id);
CREATE INDEX log_created_at_idx ON public.log (created_at);
ANALYZE public.log;
