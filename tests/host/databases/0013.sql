-- token: pw_bIRu_WwddQ9KwfqObH9YSWffhwvP0v_gY0jjV-n3_Nw
-- key: 82xRC1Tja5S6uIyjbvpAMIKMnbM30ZBqxHDlQJUQ1P4=
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0013');
CREATE TABLE apps (
	name VARCHAR NOT NULL, 
	live INTEGER, 
	last_release INTEGER NOT NULL, 
	created INTEGER NOT NULL, sealing_keys TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "apps" VALUES('greeter',3,4,1796063639,'IHUdKxzP1-ZTmjOsBAbXrpRYQZMoQ7nxASvrunYGzSk');
CREATE TABLE disabled_tools (
	app VARCHAR NOT NULL, 
	tool TEXT NOT NULL, 
	asked_by TEXT NOT NULL, 
	since INTEGER NOT NULL, 
	PRIMARY KEY (app, tool), 
	FOREIGN KEY(app) REFERENCES apps (name) ON DELETE CASCADE
);
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
INSERT INTO "releases" VALUES('greeter',1,'ready','/srv/greeter',1796063639,'{"legacy":{"capabilities":{"prompts":{},"resources":{},"tools":{}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2025-11-25"},"modern":{"capabilities":{"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"tools":{"listChanged":true}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2026-07-28"}}','',0,'{}','{"command": ["portway", "run", "server.py", "--transport", "http"], "name": "server.py", "on_socket": true}',NULL,'','deploy','','','','');
INSERT INTO "releases" VALUES('greeter',2,'ready','/srv/greeter',1796063645,'{"legacy":{"capabilities":{"prompts":{},"resources":{},"tools":{}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2025-11-25"},"modern":{"capabilities":{"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"tools":{"listChanged":true}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2026-07-28"}}','',0,'{"access": "public"}','{"command": ["portway", "run", "server.py", "--transport", "http"], "name": "server.py", "on_socket": true}',NULL,'','deploy','','root','','');
INSERT INTO "releases" VALUES('greeter',3,'ready','/srv/greeter',1796063648,'{"legacy":{"capabilities":{"prompts":{},"resources":{},"tools":{}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2025-11-25"},"modern":{"capabilities":{"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"tools":{"listChanged":true}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2026-07-28"}}','',0,'{"access": "public"}','{"command": ["portway", "run", "server.py", "--transport", "http"], "name": "server.py", "on_socket": true}',2,'iSXX_YLfEuWIVObx46FVPcjrM__zRG8udqV0D_x9YdUYKeck6YqOadykPMTSoeZ5','env','GREETING','root','','');
INSERT INTO "releases" VALUES('greeter',4,'failed','/srv/bad',1796063649,'','there is no FastMCP, MCPServer or portway.Server at the top level of server.py: name its server with --server FILE[:OBJECT], or give the command that serves it with --start',0,'{}','null',NULL,'yrWHDHJ2TlfcmSk8NFxxVVg1bWwe8yQRYnas9uYXHgDIZLUhkp8TGGQyMsZDyYRW','deploy','','root','','');
CREATE TABLE tokens (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	app VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	digest VARCHAR NOT NULL, 
	scopes JSON NOT NULL, 
	created INTEGER NOT NULL, expires INTEGER, former VARCHAR DEFAULT '' NOT NULL, former_expires INTEGER, 
	UNIQUE (app, name), 
	FOREIGN KEY(app) REFERENCES apps (name) ON DELETE CASCADE, 
	UNIQUE (digest)
);
INSERT INTO "tokens" VALUES(1,'greeter','default','b4c5345bb68b743c7864458799f4c8e374df232df207a2667a06b40c4a6925f1','[]',1796063644,NULL,'',NULL);
INSERT INTO "tokens" VALUES(2,'greeter','ci','8add32ec5ff5b7c8a570018053b5b38285fef30e749f972a033d2ba80f03be0d','[]',1796063650,NULL,'',NULL);
CREATE TABLE users (
	name VARCHAR NOT NULL, 
	digest VARCHAR NOT NULL, 
	role VARCHAR NOT NULL, 
	apps JSON NOT NULL, 
	created INTEGER NOT NULL, expires INTEGER, former VARCHAR DEFAULT '' NOT NULL, former_expires INTEGER, 
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
INSERT INTO "variables" VALUES('app:greeter','GREETING','7tU1lsbXTbon9yRKUxe1TbrMsk7YGLlZpy1XX61DOj6Z','set');
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('tokens',2);
COMMIT;
