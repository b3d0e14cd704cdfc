-- token: pw_elnoCQcIQ4TOAtUc6uFKjwsUEWuW0nL_FvzZx78FfUw
-- key: BxSrcsgRrUtHxzXqmnWXGiZUDD8oELcMAZiZLR3876Y=
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0008');
CREATE TABLE apps (
	name VARCHAR NOT NULL, 
	live INTEGER, 
	last_release INTEGER NOT NULL, 
	created INTEGER NOT NULL, sealing_keys TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "apps" VALUES('greeter',3,4,1796040161,'KRw8lb1XaiGM0hl9wlD_nbBd8Q82by8naRajkPzLa3o');
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
INSERT INTO "releases" VALUES('greeter',1,'ready','/srv/greeter',1796040161,'{"legacy":{"capabilities":{"prompts":{},"resources":{},"tools":{}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2025-11-25"},"modern":{"capabilities":{"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"tools":{"listChanged":true}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2026-07-28"}}','',0,'{}','{"command": ["portway", "run", "server.py", "--transport", "http"], "name": "server.py", "on_socket": true}',NULL,'','deploy','','','','');
INSERT INTO "releases" VALUES('greeter',2,'ready','/srv/greeter',1796040167,'{"legacy":{"capabilities":{"prompts":{},"resources":{},"tools":{}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2025-11-25"},"modern":{"capabilities":{"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"tools":{"listChanged":true}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2026-07-28"}}','',0,'{"access": "public"}','{"command": ["portway", "run", "server.py", "--transport", "http"], "name": "server.py", "on_socket": true}',NULL,'','deploy','','root','','');
INSERT INTO "releases" VALUES('greeter',3,'ready','/srv/greeter',1796040170,'{"legacy":{"capabilities":{"prompts":{},"resources":{},"tools":{}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2025-11-25"},"modern":{"capabilities":{"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"tools":{"listChanged":true}},"instructions":null,"prompts":[],"resourceTemplates":[],"resources":[],"server":{"name":"greeter","title":null},"tools":[{"inputSchema":{"additionalProperties":false,"properties":{},"type":"object"},"name":"greet","outputSchema":{"properties":{"result":{"type":"string"}},"required":["result"],"type":"object","x-fastmcp-wrap-result":true}}],"version":"2026-07-28"}}','',0,'{"access": "public"}','{"command": ["portway", "run", "server.py", "--transport", "http"], "name": "server.py", "on_socket": true}',2,'509JeAbCPuSGWLOHFhbgIwWbUQuEjMdQBHbhrEhcn8RoRpDH--7wGrAnpoOU4B6p','env','GREETING','root','','');
INSERT INTO "releases" VALUES('greeter',4,'failed','/srv/bad',1796040171,'','there is no FastMCP, MCPServer or portway.Server at the top level of server.py: name its server with --server FILE[:OBJECT], or give the command that serves it with --start',0,'{}','null',NULL,'kAmOELmnbdUNyFARs-jePUYUsfmIHNcs4771pFzZGQn-dvCckP1tEad5s0kAVtWi','deploy','','root','','');
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
INSERT INTO "tokens" VALUES(1,'greeter','default','cd4971a655eac70b04144d3aeb6e7f0dfccf647234ce6924918f1cee5a956a74','[]',1796040167);
INSERT INTO "tokens" VALUES(2,'greeter','ci','8b1fd17bf14018958b9ff3c2c878d55bd15b096e7f6d7303c71191bf37007a5a','[]',1796040171);
CREATE TABLE variables (
	owner VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	value TEXT NOT NULL, 
	source VARCHAR NOT NULL, 
	PRIMARY KEY (owner, name)
);
INSERT INTO "variables" VALUES('app:greeter','GREETING','Rdj0IHkcLuW5xVmOm0cRLd9hEc4mv8tmlg53jO7u2_3Q','set');
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('tokens',2);
COMMIT;
