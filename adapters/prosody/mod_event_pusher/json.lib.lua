-- Encodes events as JSON and joins them into lines of the queue, ready for a batch.
--
-- The main cost of an event is garbage for the collector, which Prosody tunes to run all the time. So the pieces of
-- many events are joined at once. docs/decisions/speed-in-the-adapters.md has the measurements.

local is_utf8 = require "util.encodings".utf8.valid;
local now = require "util.time".now;

local concat, find, floor, next, type = table.concat, string.find, math.floor, next, type;

local max_bytes_with_stanza = 3 * 1024 * 1024; -- of an event; a larger one loses its stanza
local max_bytes = 4 * 1024 * 1024 - 4096; -- of an event, since the tap accepts 4 MiB
local max_depth = 500; -- of nested elements in a stanza, including itself
local max_pieces = 5000; -- to keep in memory

local escapes = {
	['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t";
};
for code = 0, 31 do
	local char = string.char(code);
	escapes[char] = escapes[char] or ("\\u%04x"):format(code);
end

local xml_escapes = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ["'"] = "&apos;", ['"'] = "&quot;" };

local special = '[%z\1-\31"\\]';
-- Matches text that needs no escapes as XML within JSON. This is much faster than searching for characters that need
-- escaping: it tries one match only, and Lua scans a set from the left.
local plain_xml = "^[]-~ (-;?-[=!#$%%\127-\255]*$";

-- Streams accept only UTF-8, but invalid text from another module must not break a batch.
local function valid(text)
	if is_utf8(text) then return text; end
	return (text:gsub("[\128-\255]+", function (run) return is_utf8(run) and run or "\239\191\189"; end));
end

local function escape(text)
	return (text:gsub(special, escapes));
end

local function escape_xml(text)
	return (text:gsub("[&<>'\"]", xml_escapes):gsub(special, escapes));
end

local function quote(text)
	return '"'..escape(valid(text))..'"';
end

-- Returns the text directly in an element, without that of its child elements.
local function text_of(element)
	if #element == 1 and type(element[1]) == "string" then return element[1]; end
	local texts = {};
	for _, child in ipairs(element) do
		if type(child) == "string" then texts[#texts + 1] = child; end
	end
	return concat(texts);
end

local pieces, count, events, bytes = {}, 0, 0, 0; -- collected; count is of pieces, bytes their length

-- The put functions append pieces from index n + 1 on and return the last index.
local function put_attribute(n, key, value)
	pieces[n + 1], pieces[n + 2], pieces[n + 3], pieces[n + 4], pieces[n + 5] = " ", key, "='", escape_xml(value), "'";
	return n + 5;
end

-- Puts an element as tostring would, but escaped for a JSON string. Returns nil if elements are nested too deep.
local function put_element(n, element, parent_xmlns, depth)
	if depth == 0 then return; end
	local name, attr, size = element.name, element.attr, #element;
	pieces[n + 1], pieces[n + 2] = "<", name;
	n = n + 2;
	local prefixes = 0;
	for key, value in next, attr do
		if find(key, "\1", 1, true) then
			local xmlns, local_name = key:match("^([^\1]*)\1(.*)$");
			prefixes = prefixes + 1;
			n = put_attribute(n, "xmlns:ns"..prefixes, xmlns);
			n = put_attribute(n, "ns"..prefixes..":"..local_name, value);
		elseif key ~= "xmlns" or value ~= parent_xmlns then
			n = put_attribute(n, key, value);
		end
	end
	n = n + 1;
	if size == 0 then
		pieces[n] = "/>";
		return n;
	end
	pieces[n] = ">";
	for i = 1, size do
		local child = element[i];
		if type(child) == "string" then
			n = n + 1;
			pieces[n] = escape_xml(child);
		else
			n = put_element(n, child, attr.xmlns, depth - 1);
			if not n then return; end
		end
	end
	pieces[n + 1], pieces[n + 2], pieces[n + 3] = "</", name, ">";
	return n + 3;
end

local function timestamp()
	return ("%d"):format(floor(now() * 1000));
end

-- Counts the pieces up to `last` as one event. Returns false if it would exceed `max` bytes.
local function put_event(last, max)
	local size = 0;
	for i = count + 1, last do size = size + #pieces[i]; end
	if size > max then return false; end
	count, events, bytes = last, events + 1, bytes + size;
	return true;
end

local host = quote(module.host);
local begin_message = ('{"kind":"message","host":%s,"type":"'):format(host);
local json = { quote = quote };

-- Adds a presence event. `sessions`: how many available sessions the user has now.
function json.presence(jid, present, sessions)
	pieces[count + 1] = ('{"kind":"presence","at":%s,"host":%s,"jid":%s,"present":%s,"sessions":%d},\n'):format(
		timestamp(), host, quote(jid), tostring(present), sessions);
	put_event(count + 1, max_bytes);
end

local usual = { from = true, to = true, id = true, type = true, ["xml:lang"] = true };

-- Whether a message, as most do, consists of plain text and the usual attributes without any escapes.
local function is_usual(from, stanza, body)
	local text, attr = body[1], stanza.attr;
	if stanza[2] or body[2] or next(body.attr) or attr.from ~= from or not attr.to then return false; end
	if type(text) ~= "string" or not find(text, plain_xml) then return false; end
	for key, value in next, attr do
		if not usual[key] or not find(value, plain_xml) then return false; end
	end
	return true;
end

local function put_usual(n, attr, text)
	pieces[n + 1], pieces[n + 2], pieces[n + 3], pieces[n + 4] = "<message from='", attr.from, "' to='", attr.to;
	n = n + 4;
	if attr.id then
		pieces[n + 1], pieces[n + 2] = "' id='", attr.id;
		n = n + 2;
	end
	if attr["xml:lang"] then
		pieces[n + 1], pieces[n + 2] = "' xml:lang='", attr["xml:lang"];
		n = n + 2;
	end
	pieces[n + 1], pieces[n + 2], pieces[n + 3], pieces[n + 4] = "' type='", attr.type, "'><body>", text;
	pieces[n + 5] = "</body></message>";
	return n + 5;
end

-- Adds a message event. Returns false, and adds nothing, if it is too large for the tap.
function json.message(from, to, stanza, body)
	local attr, text, n = stanza.attr, body[1], count;
	local is_plain = is_usual(from, stanza, body);
	local id = attr.id;
	if not is_plain then
		from, to, text, id = escape(from), escape(to), escape(text_of(body)), id and escape(id);
	end
	pieces[n + 1], pieces[n + 2], pieces[n + 3], pieces[n + 4] = begin_message, attr.type, '","at":', timestamp();
	pieces[n + 5], pieces[n + 6], pieces[n + 7], pieces[n + 8] = ',"from":"', from, '","to":"', to;
	pieces[n + 9], pieces[n + 10] = '","body":"', text;
	n = n + 10;
	if id then
		pieces[n + 1], pieces[n + 2] = '","stanza_id":"', id;
		n = n + 2;
	end
	pieces[n + 1] = '","stanza":"';
	local last = is_plain and put_usual(n + 1, attr, text) or put_element(n + 1, stanza, nil, max_depth);
	if last then
		pieces[last + 1] = '"},\n';
		if put_event(last + 1, max_bytes_with_stanza) then return true; end
	end
	pieces[n + 1] = '"},\n';
	return put_event(n + 1, max_bytes);
end

function json.bytes()
	return bytes;
end

-- Joins the collected events. Returns the text and the number of events.
function json.join()
	local text, joined = valid(concat(pieces, "", 1, count)), events;
	-- Release the memory of a large stanza.
	if #pieces > max_pieces then pieces = {}; end
	count, events, bytes = 0, 0, 0;
	return text, joined;
end

return json;
