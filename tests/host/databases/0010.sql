-- token: pw_9Quf3KR1iAGOGram5t7EmArsmN_bnEt-wrJIXRhLSDw
-- key: k0PFPU2qHdfCJwZJK9VpxEFZC71EilR6ilr2rFcGc4M=
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0010');
CREATE TABLE apps (
	name VARCHAR NOT NULL, 
	live INTEGER, 
	last_release INTEGER NOT NULL, 
	created INTEGER NOT NULL, sealing_keys TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "apps" VALUES('greeter',3,4,1796049101,'QsbMrd11ON-2isWKZsWOCpM4x8hxMF2ZPquYU0Id2Z0');
CREATE TABLE instances (
	id VARCHAR NOT NULL, 
	app VARCHAR NOT NULL, 
	release INTEGER NOT NULL, 
	token TEXT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(app) REFERENCES apps (name) ON DELETE CASCADE
);
CREATE TABLE links (
	app VARCHAR NOT NULL, 
	url TEXT NOT NULL, 
	branch TEXT NOT NULL, 
	root TEXT NOT NULL, 
	seen VARCHAR NOT NULL, 
	note TEXT NOT NULL, 
	PRIMARY KEY (app), 
	FOREIGN KEY(app) REFERENCES apps (name) ON DELETE CASCADE
);
CREATE TABLE releases (
	app VARCHAR NOT NULL, 
	number INTEGER NOT NULL, 
	status VARCHAR NOT NULL, 
	source TEXT NOT NULL, 
	created INTEGER NOT NULL, 
	contract TEXT DEFAULT '' NOT NULL, 
	error TEXT DEFAULT '' NOT NULL, restarts INTEGER DEFAULT '0' NOT NULL, config JSON DEFAULT '{}' NOT NULL, start JSON DEFAULT 'null' NOT NULL, files INTEGER, environment TEXT DEFAULT '' NOT NULL, cause VARCHAR DEFAULT 'deploy' NOT NULL, detail TEXT DEFAULT '' NOT NULL, asked_by TEXT DEFAULT '' NOT NULL, "commit" VARCHAR DEFAULT '' NOT NULL, accepted VARCHAR DEFAULT '' NOT NULL, 
	PRIMARY KEY (app, number), 
	FOREIGN KEY(app) REFERENCES apps (name) ON DELETE CASCADE
);
INSERT INTO "releases" VALUES('greeter',1,'ready','/srv/greeter',1796049101,'{"legacy":{"capabilities":{"prompts":{},"resources":{},"tools":{}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2025-11-25"},"modern":{"capabilities":{"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"tools":{"listChanged":true}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2026-07-28"}}','',0,'{}','{"command": ["portway", "run", "server.py", "--transport", "http"], "name": "server.py", "on_socket": true}',NULL,'','deploy','','','','');
INSERT INTO "releases" VALUES('greeter',2,'ready','/srv/greeter',1796049107,'{"legacy":{"capabilities":{"prompts":{},"resources":{},"tools":{}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2025-11-25"},"modern":{"capabilities":{"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"tools":{"listChanged":true}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2026-07-28"}}','',0,'{"access": "public"}','{"command": ["portway", "run", "server.py", "--transport", "http"], "name": "server.py", "on_socket": true}',NULL,'','deploy','','root','','');
INSERT INTO "releases" VALUES('greeter',3,'ready','/srv/greeter',1796049110,'{"legacy":{"capabilities":{"prompts":{},"resources":{},"tools":{}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2025-11-25"},"modern":{"capabilities":{"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"tools":{"listChanged":true}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2026-07-28"}}','',0,'{"access": "public"}','{"command": ["portway", "run", "server.py", "--transport", "http"], "name": "server.py", "on_socket": true}',2,'0Rpiu3ruB_RAGqGvo3Sum3tqVJPEaCbQCE-mESD1TL1NIwNYIw2OxOtdhheZNcMc','env','GREETING','root','','');
INSERT INTO "releases" VALUES('greeter',4,'failed','/srv/bad',1796049111,'','there is no FastMCP, MCPServer or portway.Server at the top level of server.py: name its server with --server FILE[:OBJECT], or give the command that serves it with --start',0,'{}','null',NULL,'4qFyDDFktkxMSnEMJKi0tHOsGLJ9Trf2532m3bgmRMgKnl_diCo3jnrHZpCPPWl4','deploy','','root','','');
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
INSERT INTO "tokens" VALUES(1,'greeter','default','36ca91e0855f9fbde8d388a9f73299d76798cf7f305df8823de086be9224e99d','[]',1796049106);
INSERT INTO "tokens" VALUES(2,'greeter','ci','c5e813c084fe450a902b72fae92928c83e096c2d8504606f8a21e04c193375b2','[]',1796049111);
CREATE TABLE users (
	name VARCHAR NOT NULL, 
	digest VARCHAR NOT NULL, 
	role VARCHAR NOT NULL, 
	apps JSON NOT NULL, 
	created INTEGER NOT NULL, 
	PRIMARY KEY (name), 
	UNIQUE (digest)
);
CREATE TABLE variables (
	owner VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	value TEXT NOT NULL, 
	source VARCHAR NOT NULL, 
	PRIMARY KEY (owner, name)
);
INSERT INTO "variables" VALUES('app:greeter','GREETING','kBD7-XCKoaXDFmQn4Nb-IplSwir2Or76uKhAOycAheHP','set');
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('tokens',2);
COMMIT;
