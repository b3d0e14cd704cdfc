-- token: pw_gKA1Qgh3cVQMS30s0p3pu_-hOg2l_2nCoIkjzSLdxH8
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE apps (
	name VARCHAR NOT NULL, 
	access VARCHAR NOT NULL, 
	live INTEGER, 
	last_release INTEGER NOT NULL, 
	created INTEGER NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "apps" VALUES('greeter','token',2,3,1796037643);
CREATE TABLE instances (
	id VARCHAR NOT NULL, 
	app VARCHAR NOT NULL, 
	release INTEGER NOT NULL, 
	token TEXT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(app) REFERENCES apps (name) ON DELETE CASCADE
);
CREATE TABLE releases (
	app VARCHAR NOT NULL, 
	number INTEGER NOT NULL, 
	status VARCHAR NOT NULL, 
	source TEXT NOT NULL, 
	created INTEGER NOT NULL, 
	server TEXT DEFAULT '' NOT NULL, 
	contract TEXT DEFAULT '' NOT NULL, 
	error TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY (app, number), 
	FOREIGN KEY(app) REFERENCES apps (name) ON DELETE CASCADE
);
INSERT INTO "releases" VALUES('greeter',1,'ready','/srv/greeter',1796037643,'server.py','{"legacy":{"capabilities":{"prompts":{},"resources":{},"tools":{}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"tools":[{"inputSchema":{"additionalProperties":false,"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object"}}],"version":"2025-11-25"},"modern":{"capabilities":{"prompts":{},"resources":{},"tools":{}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"tools":[{"inputSchema":{"additionalProperties":false,"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object"}}],"version":"2026-07-28"}}','');
INSERT INTO "releases" VALUES('greeter',2,'ready','/srv/greeter',1796037647,'server.py','{"legacy":{"capabilities":{"prompts":{},"resources":{},"tools":{}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"tools":[{"inputSchema":{"additionalProperties":false,"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object"}}],"version":"2025-11-25"},"modern":{"capabilities":{"prompts":{},"resources":{},"tools":{}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"tools":[{"inputSchema":{"additionalProperties":false,"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object"}}],"version":"2026-07-28"}}','');
INSERT INTO "releases" VALUES('greeter',3,'failed','/srv/bad',1796037650,'','','could not find its server:
  server.py could not be imported:
  Traceback (most recent call last):
    File "/srv/portway/apps/greeter/releases/3/src/server.py", line 1, in <module>
      raise SystemExit(3)
  SystemExit: 3');
CREATE TABLE tokens (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	app VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	digest VARCHAR NOT NULL, 
	scopes JSON NOT NULL, 
	created INTEGER NOT NULL, 
	UNIQUE (app, name), 
	FOREIGN KEY(app) REFERENCES apps (name) ON DELETE CASCADE, 
	UNIQUE (digest)
);
INSERT INTO "tokens" VALUES(1,'greeter','default','a1f0a3f4368e996ab7de4a2e8933baaa6b527471e23c1e05046d301d17a930ee','[]',1796037646);
INSERT INTO "tokens" VALUES(2,'greeter','ci','e1cb0b4e4be095f5da1cafb9b2ca972ee15f927e434b609e32dabaebb0af61d4','[]',1796037652);
CREATE TABLE variables (
	app VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (app, name), 
	FOREIGN KEY(app) REFERENCES apps (name) ON DELETE CASCADE
);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('tokens',2);
COMMIT;
