-- token: pw_Eopt-XdaMblUF4rPb15Am-x3lNTUC-PCkPMXe3QaIBw
-- key: xoQcM1YC319EeafPamfyTdnkS1r0dAskkxlQZ+kmZ68=
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0009');
CREATE TABLE apps (
	name VARCHAR NOT NULL, 
	live INTEGER, 
	last_release INTEGER NOT NULL, 
	created INTEGER NOT NULL, sealing_keys TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "apps" VALUES('greeter',3,4,1796040173,'-7rcgNUZHiShdBWtSbDxMjcNyeA-r0h6SYTSineSOpI');
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
	contract TEXT DEFAULT '' NOT NULL, 
	error TEXT DEFAULT '' NOT NULL, restarts INTEGER DEFAULT '0' NOT NULL, config JSON DEFAULT '{}' NOT NULL, start JSON DEFAULT 'null' NOT NULL, files INTEGER, environment TEXT DEFAULT '' NOT NULL, cause VARCHAR DEFAULT 'deploy' NOT NULL, detail TEXT DEFAULT '' NOT NULL, asked_by TEXT DEFAULT '' NOT NULL, "commit" VARCHAR DEFAULT '' NOT NULL, accepted VARCHAR DEFAULT '' NOT NULL, 
	PRIMARY KEY (app, number), 
	FOREIGN KEY(app) REFERENCES apps (name) ON DELETE CASCADE
);
INSERT INTO "releases" VALUES('greeter',1,'ready','/srv/greeter',1796040173,'{"legacy":{"capabilities":{"prompts":{},"resources":{},"tools":{}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2025-11-25"},"modern":{"capabilities":{"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"tools":{"listChanged":true}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2026-07-28"}}','',0,'{}','{"command": ["portway", "run", "server.py", "--transport", "http"], "name": "server.py", "on_socket": true}',NULL,'','deploy','','','','');
INSERT INTO "releases" VALUES('greeter',2,'ready','/srv/greeter',1796040182,'{"legacy":{"capabilities":{"prompts":{},"resources":{},"tools":{}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2025-11-25"},"modern":{"capabilities":{"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"tools":{"listChanged":true}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2026-07-28"}}','',0,'{"access": "public"}','{"command": ["portway", "run", "server.py", "--transport", "http"], "name": "server.py", "on_socket": true}',NULL,'','deploy','','root','','');
INSERT INTO "releases" VALUES('greeter',3,'ready','/srv/greeter',1796040186,'{"legacy":{"capabilities":{"prompts":{},"resources":{},"tools":{}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2025-11-25"},"modern":{"capabilities":{"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"tools":{"listChanged":true}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2026-07-28"}}','',0,'{"access": "public"}','{"command": ["portway", "run", "server.py", "--transport", "http"], "name": "server.py", "on_socket": true}',2,'0BgmaT-Teo-bUuCOg7BPD9o_DCdI9lFBF4dRg09DElubeWptbxzYDGoQdYsN7Sov','env','GREETING','root','','');
INSERT INTO "releases" VALUES('greeter',4,'failed','/srv/bad',1796040188,'','there is no FastMCP, MCPServer or portway.Server at the top level of server.py: name its server with --server FILE[:OBJECT], or give the command that serves it with --start',0,'{}','null',NULL,'PMsbcfeDrWsctsEug-IorSvmM4Cn1DYFQjV9ol9-Iv3E_60hpGe5PPSvQeiDAppw','deploy','','root','','');
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
INSERT INTO "tokens" VALUES(1,'greeter','default','50725b28e36dbae315de0b3afc5c9fb7a88d4cb270481eef0fa511a384fe9263','[]',1796040181);
INSERT INTO "tokens" VALUES(2,'greeter','ci','9b33e89c0c579932733ad2bc9ade54136c68855b6e1e9ad5f13c269e8826dc00','[]',1796040189);
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
INSERT INTO "variables" VALUES('app:greeter','GREETING','Vk2oaaaY6KQPMueWaDz5ke-JI2iXzAt3NWj7zUbFtjSH','set');
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('tokens',2);
COMMIT;
