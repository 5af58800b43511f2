CREATE TYPE public.mood AS ENUM ('sad', 'ok');
CREATE TABLE public.users (
    id serial PRIMARY KEY, "Name" text NOT NULL, m public.mood DEFAULT 'ok', note text
);
CREATE TABLE public.profiles (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id int REFERENCES public.users (id)
);
INSERT INTO public.users ("Name", note) VALUES ('a;b', E'tab\there'), ('c', 'public.users'), ('\.', NULL);
INSERT INTO public.profiles (user_id) SELECT id FROM public.users;
CREATE VIEW public.v AS SELECT u.id, p.id AS pid FROM public.users u JOIN public.profiles p ON p.user_id = u.id;
CREATE MATERIALIZED VIEW public.mv AS SELECT count(*) AS n FROM public.users;
CREATE FUNCTION public.f(x int) RETURNS int LANGUAGE plpgsql SET search_path TO 'public' AS $$
BEGIN
    PERFORM 1 FROM public.users;
    RETURN (SELECT max(id) FROM users);
END $$;
CREATE FUNCTION public.g() RETURNS int LANGUAGE sql BEGIN ATOMIC
    SELECT 2;
    SELECT CASE WHEN true THEN max(id) END FROM public.users;
END;
CREATE FUNCTION public.t() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN NEW.note := 'x;y'; RETURN NEW; END $body$;
CREATE TRIGGER tr BEFORE UPDATE ON public.users FOR EACH ROW EXECUTE FUNCTION public.t();
CREATE RULE r AS ON DELETE TO public.profiles DO ALSO (SELECT 1; SELECT 2);
CREATE DOMAIN public.pos AS int CHECK (VALUE > 0);
CREATE TABLE public.part (id int, d public.pos) PARTITION BY RANGE (id);
CREATE TABLE public.part1 PARTITION OF public.part FOR VALUES FROM (0) TO (10);
CREATE INDEX i ON public.users USING btree ("Name");
CREATE SEQUENCE public.s START 5;
SELECT nextval('public.s');
COMMENT ON TABLE public.users IS 'it''s; public.users';
COMMENT ON SCHEMA public IS 'whatever';
CREATE STATISTICS public.st ON id, note FROM public.users;
GRANT SELECT ON public.users TO PUBLIC;
ALTER TABLE public.users ENABLE ROW LEVEL SECURITY;
CREATE POLICY pol ON public.users USING (true);
