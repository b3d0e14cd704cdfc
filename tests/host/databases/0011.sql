-- token: pw_OggRHWpUsu9vEVw0hNXweskImr7wziPnVg9wcB1wDhU
-- key: wokjhOLDFVZ+iIVqIh5PtWwmCfxXloW+RVfc3eQ/5z0=
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0011');
CREATE TABLE apps (
	name VARCHAR NOT NULL, 
	live INTEGER, 
	last_release INTEGER NOT NULL, 
	created INTEGER NOT NULL, sealing_keys TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "apps" VALUES('greeter',3,4,1796061539,'z4wU-rIIrjvQGRjTTZ780iUXco4LnLNwbPWM39zwHrU');
CREATE TABLE domains (
	name VARCHAR NOT NULL, 
	app VARCHAR NOT NULL, 
	PRIMARY KEY (name), 
	FOREIGN KEY(app) REFERENCES apps (name) ON DELETE CASCADE
);
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
INSERT INTO "releases" VALUES('greeter',1,'ready','/srv/greeter',1796061539,'{"legacy":{"capabilities":{"prompts":{},"resources":{},"tools":{}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2025-11-25"},"modern":{"capabilities":{"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"tools":{"listChanged":true}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2026-07-28"}}','',0,'{}','{"command": ["portway", "run", "server.py", "--transport", "http"], "name": "server.py", "on_socket": true}',NULL,'','deploy','','','','');
INSERT INTO "releases" VALUES('greeter',2,'ready','/srv/greeter',1796061557,'{"legacy":{"capabilities":{"prompts":{},"resources":{},"tools":{}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2025-11-25"},"modern":{"capabilities":{"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"tools":{"listChanged":true}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2026-07-28"}}','',0,'{"access": "public"}','{"command": ["portway", "run", "server.py", "--transport", "http"], "name": "server.py", "on_socket": true}',NULL,'','deploy','','root','','');
INSERT INTO "releases" VALUES('greeter',3,'ready','/srv/greeter',1796061564,'{"legacy":{"capabilities":{"prompts":{},"resources":{},"tools":{}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2025-11-25"},"modern":{"capabilities":{"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"tools":{"listChanged":true}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2026-07-28"}}','',0,'{"access": "public"}','{"command": ["portway", "run", "server.py", "--transport", "http"], "name": "server.py", "on_socket": true}',2,'HfR4HM1cg6zToBTOZaLPP2Jz-hjd_YS1d-3G59oiqtumXDp39D-5IYHcnUi5-1tU','env','GREETING','root','','');
INSERT INTO "releases" VALUES('greeter',4,'failed','/srv/bad',1796061567,'','there is no FastMCP, MCPServer or portway.Server at the top level of server.py: name its server with --server FILE[:OBJECT], or give the command that serves it with --start',0,'{}','null',NULL,'ZS_1uADbjJ13WrJKDm5vDzxb6FV6kp_a8jwnZ3RBO-qIJljvOE0sYnbl5fzJXkzk','deploy','','root','','');
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
INSERT INTO "tokens" VALUES(1,'greeter','default','545c6c87774980434753a4276c2e2d650920f7139456749eb756da2e248cfcbb','[]',1796061550);
INSERT INTO "tokens" VALUES(2,'greeter','ci','35fe4750af077a092972260e398befd1e8c3afa964638cb75687dd53a51105a9','[]',1796061568);
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
INSERT INTO "variables" VALUES('app:greeter','GREETING','Gp6v5uWR4J4WrjkwZ3B2_3cHts3BapkGGg3QruCvwg7p','set');
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('tokens',2);
COMMIT;
