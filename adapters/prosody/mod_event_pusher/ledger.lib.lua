-- The session ledger: the sessions that the daemon considers available, or will once it has all queued events.
--
-- A change is "+" or "-" and a full JID. The changes of one session alternate; a repeated one has no effect.

local function bare(full_jid)
	return (full_jid:match("^[^/]*"));
end

return function ()
	local present, counts = {}, {};
	local ledger = {};

	function ledger.has(jid)
		return present[jid] == true;
	end

	-- Returns how many available sessions the user of this session has.
	function ledger.count(jid)
		return counts[bare(jid)] or 0;
	end

	function ledger.change(change)
		local jid, is_present = change:sub(2), change:sub(1, 1) == "+";
		if ledger.has(jid) == is_present then return; end
		present[jid] = is_present or nil;
		local user = bare(jid);
		local count = (counts[user] or 0) + (is_present and 1 or -1);
		counts[user] = count > 0 and count or nil;
	end

	-- Clears the ledger and applies these changes.
	function ledger.reset(changes)
		present, counts = {}, {};
		for _, change in ipairs(changes) do ledger.change(change); end
	end

	-- Returns the available sessions, sorted.
	function ledger.sessions()
		local jids = {};
		for jid in pairs(present) do jids[#jids + 1] = jid; end
		table.sort(jids);
		return jids;
	end

	-- Returns the sessions that were available before these changes, which must be the latest.
	function ledger.sessions_before(changes)
		local before = {};
		for _, change in ipairs(changes) do
			local jid = change:sub(2);
			if before[jid] == nil then before[jid] = change:sub(1, 1) == "-"; end
		end
		local jids = {};
		for jid in pairs(present) do
			if before[jid] == nil then jids[#jids + 1] = jid; end
		end
		for jid, was_present in pairs(before) do
			if was_present then jids[#jids + 1] = jid; end
		end
		return jids;
	end

	return ledger;
end
