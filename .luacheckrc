-- Options of luacheck for Prosody's adapter: `npm run lint` runs it.
std = "lua54"
codes = true
max_line_length = 120
-- What Prosody gives to each of its modules. A module adds its own functions to `module`.
globals = { "module" }
read_globals = { "prosody" }
