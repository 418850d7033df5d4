-module(mod_presence).
%% The API.
-export([maybe_get_handler/1, get_old_priority/1]).
%% For tests.
-export([set_priority/2]).

maybe_get_handler(Data) ->
    case mongoose_c2s:get_mod_state(Data, ?MODULE) of
        {ok, State} -> State;
        {error, not_found} -> {presences, undefined}
    end.

get_old_priority({presences, Priority}) -> Priority.

%% `undefined` for an unavailable session.
set_priority(Data, Priority) ->
    mongoose_c2s:merge_mod_state(Data, #{?MODULE => {presences, Priority}}).
