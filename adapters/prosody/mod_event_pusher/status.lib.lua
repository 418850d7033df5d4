-- Writes the file `status` in the queue's folder: one line of JSON for `xmpp-event-pusher adapter status`, which has no
-- other access to the server.

local json_encode = require "util.json".encode;

-- Returns a function that writes the file if its content changed. Errors are ignored: the file is only informative.
return function (folder, queue, delivery)
	local path, written = folder.."/status", nil;
	return function ()
		local contact, problem = delivery.report();
		local fields = { ('"waiting":%d'):format(queue.waiting()) };
		if contact then fields[#fields + 1] = ('"contact":%d'):format(contact); end
		if problem then fields[#fields + 1] = '"problem":'..json_encode(problem); end
		local text = "{"..table.concat(fields, ",").."}\n";
		if text == written then return; end
		local file = io.open(path..".new", "wb");
		if not file then return; end
		local wrote = file:write(text);
		if file:close() and wrote and os.rename(path..".new", path) then written = text; end
	end
end
