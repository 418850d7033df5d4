%%% The file with the sessions of dead nodes whose end was reported by this or another node.
-module(event_pusher_claims).

-export([read/1, keep/3]).

%% A node that is away for this long is not expected back.
-define(KEPT_MS, 30 * 86400000).

-spec read(file:filename()) -> event_pusher_rows:claims().
read(File) ->
    case file:read_file(File) of
        {ok, Data} ->
            try binary_to_term(Data) of
                Claims when is_map(Claims) -> recent(Claims);
                _ -> #{}
            catch
                error:badarg -> #{}
            end;
        {error, _} -> #{}
    end.

%% Writes the claims if they changed. If the disk fails, the worst outcome is an end reported twice.
-spec keep(event_pusher_rows:claims(), event_pusher_rows:claims(), file:filename()) -> event_pusher_rows:claims().
keep(Claims, Former, File) ->
    Kept = recent(Claims),
    _ = Kept =:= Former orelse write(Kept, File),
    Kept.

write(Claims, File) when map_size(Claims) =:= 0 ->
    file:delete(File);
write(Claims, File) ->
    New = File ++ ".new",
    _ = filelib:ensure_dir(File),
    file:write_file(New, term_to_binary(Claims)) =:= ok andalso file:rename(New, File).

recent(Claims) ->
    Since = os:system_time(millisecond) - ?KEPT_MS,
    maps:filter(fun(_, At) -> At > Since end, Claims).
