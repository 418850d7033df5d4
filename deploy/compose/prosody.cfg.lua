-- For the demo only: without TLS, with the users alice and bob, whose passwords are their names.
plugin_paths = { "/usr/local/lib/prosody/modules" }
data_path = "/var/lib/prosody"
log = { { levels = { min = "info" }, to = "console" } }
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
-- The container has no valid certificates, and other servers must not connect.
modules_disabled = { "tls", "s2s" }

event_pusher_url = "http://pusher:5290/v1/events"
event_pusher_secret = "tap-secret-for-trying-only"

VirtualHost "localhost"
	modules_enabled = { "roster", "saslauth", "disco", "ping", "smacks", "carbons", "event_pusher" }

Component "conference.localhost" "muc"
