%%% The file of the sessions of dead nodes whose end this node, or another one, has reported.
-module(event_pusher_claims).

-export([read/1, keep/3]).

%% A node that does not return for so long does not return.
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

%% Writes them when they are others than before. A disk that can't take them costs a report twice at the worst.
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
