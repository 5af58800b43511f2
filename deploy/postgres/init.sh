#!/bin/sh
# For docker-compose.yml: runs once, while the server's directory is empty and it listens on its socket only.
# The bot's role is no superuser; nobody else is let into a database.
set -eu

psql --set ON_ERROR_STOP=1 --quiet --username postgres --dbname postgres <<'SQL'
\getenv password POSTGRES_PASSWORD
CREATE ROLE sandbox LOGIN CREATEROLE PASSWORD :'password';
ALTER DATABASE sandbox OWNER TO sandbox;
CREATE DATABASE tenants OWNER sandbox;
REVOKE ALL ON DATABASE sandbox, tenants, postgres, template1 FROM PUBLIC;
GRANT pg_use_reserved_connections TO sandbox;
GRANT SET ON PARAMETER temp_file_limit TO sandbox;
\connect tenants
REVOKE ALL ON SCHEMA public FROM PUBLIC;
-- From now on the superuser is reached through the container's socket only.
ALTER ROLE postgres PASSWORD NULL;
SQL
