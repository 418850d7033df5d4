-- Posts a batch to the tap over its own connection. net.http is unsuitable: it reads answers of up to 10 MiB and
-- does not verify certificates for IP addresses.

local connect = require "net.connect".connect;
local http_options = require "net.http".default.options;
local new_parser = require "net.http.parser".new;
local new_resolver = require "net.resolvers.basic".new;
local base64 = require "util.encodings".base64.encode;
local pton = require "util.net".pton;
local parse_url = require "socket.url".parse;
local verify_identity = require "util.x509".verify_identity;

local quote = module:require "json".quote;

local max_answer = 64 * 1024; -- bytes, including headers
local read_bytes = 8192; -- at once
local subject_alt_name = "2.5.29.17";

-- Returns the request in parts: joining them would create another large string, the main cost of sending.
local function request_of(batch, to, secret)
	local segment, userinfo = batch.segment, to.userinfo;
	local head = ('{"source":%s,"epoch":%s,"first_seq":%d,"events":['):format(
		quote(segment.source), quote(segment.epoch), batch.first);
	local credentials = secret and "Bearer "..secret or userinfo and "Basic "..base64(userinfo);
	local lines = {
		("POST %s%s HTTP/1.1"):format(to.path or "/", to.query and "?"..to.query or "");
		"Host: "..to.authority:gsub("^.*@", "");
		"Connection: close";
		"Content-Type: application/json";
		("Content-Length: %d"):format(#head + batch.bytes);
	};
	if credentials then lines[#lines + 1] = "Authorization: "..credentials; end
	local parts = { table.concat(lines, "\r\n").."\r\n\r\n"..head };
	for _, text in ipairs(batch.parts) do parts[#parts + 1] = text; end
	parts[#parts] = parts[#parts]:sub(1, -3).."]}"; -- remove the last comma
	return parts;
end

-- Whether a certificate is valid for this host. An IP address must be listed as an IP address (RFC 9110).
local function is_for(certificate, host)
	local address = pton(host);
	if not address then return verify_identity(host, false, certificate); end
	local names = certificate:extensions()[subject_alt_name];
	for _, name in ipairs(names and names.iPAddress or {}) do
		if pton(name) == address then return true; end
	end
	return false;
end

local function is_trusted(conn, host)
	local socket = conn:socket();
	local certificate = socket:getpeerverification() and socket:getpeercertificate();
	return certificate and is_for(certificate, host);
end

-- Posts a batch to the URL, then calls answer({ status, headers, body }) once, or answer({ problem, odd, sent })
-- without a valid answer: the reason, whether the server broke HTTP, and whether the tap may have the batch. Returns a
-- function that aborts the request and returns whether the tap may have the batch.
return function (batch, url, secret, answer)
	local to = parse_url(url);
	local is_tls = to.scheme == "https";
	local parts, conn, sent, received = request_of(batch, to, secret), nil, 0, 0;

	local function finish(result)
		local call = answer;
		answer = nil;
		-- close() would wait until all written data is sent.
		if conn then (conn.destroy or conn.close)(conn); end
		if call then call(result); end
	end

	local function fail(problem, odd)
		finish({ problem = problem, odd = odd, sent = sent > 0 });
	end

	if is_tls and not http_options.sslctx then
		fail("Prosody has no TLS");
		return function () return false; end;
	end

	local body; -- pieces of a body that ends with the connection; the parser would take the first piece for the whole
	local function parsed(response)
		-- An interim answer such as 100 Continue.
		if response.code < 200 then return; end
		if not response.partial then
			finish({
				status = response.code, headers = response.headers, body = body and table.concat(body) or response.body or "";
			});
		elseif not response.body_length and not response.chunked then
			body = {};
			response.body_sink = { write = function (_, piece)
				body[#body + 1] = piece;
				return true;
			end };
		end
	end
	local parser = new_parser(parsed, function (err) fail(("its answer is broken (%s)"):format(err), true); end, "client");

	local function read(data)
		if not answer then return; end
		received = received + #(data or "");
		if received > max_answer then return fail("its answer is longer than 64 KiB", true); end
		local ok, err = pcall(parser.feed, parser, data);
		if not ok then fail(("its answer is broken (%s)"):format(err), true); end
	end

	local function send_next()
		if not answer or not parts[sent + 1] then return; end
		sent = sent + 1;
		conn:write(parts[sent]);
	end

	local listener = { ondrain = send_next };

	function listener.onconnect(new_conn)
		conn = new_conn;
		if not answer then return conn:close(); end
		if is_tls and not is_trusted(conn, to.host) then return fail("its certificate is not trusted"); end
		conn:setoption("tcp-nodelay", true); -- the last part is small
		-- By default Prosody reads all that comes before it calls onincoming: without end if that never pauses.
		if conn.set_mode then conn:set_mode(read_bytes); end
		send_next();
	end

	function listener.onincoming(_, data)
		read(data);
	end

	function listener.ondisconnect(_, err)
		read(nil); -- an answer may end with the connection
		if answer then fail(err or "the connection was closed"); end
	end

	function listener.onfail(_, err)
		fail(err or "no connection");
	end

	-- RFC 6066 forbids IP addresses as server names.
	local servername = not pton(to.host) and to.host or nil;
	-- Prosody asks only the DNS, which may not resolve this name (RFC 6761).
	local host = to.host:lower() == "localhost" and "127.0.0.1" or to.host;
	connect(
		new_resolver(host, tonumber(to.port) or is_tls and 443 or 80, "tcp", {
			servername = servername, use_dane = http_options.use_dane;
		}),
		listener,
		{ sslctx = is_tls and http_options.sslctx }
	);

	return function ()
		answer = nil;
		if conn then (conn.destroy or conn.close)(conn); end
		return sent > 0;
	end
end
