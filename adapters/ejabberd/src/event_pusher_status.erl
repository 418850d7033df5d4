%%% The file `status` in the queue's folder: one line of JSON for `xmpp-event-pusher adapter status`, which has no other
%%% access to the server.
-module(event_pusher_status).

-export([write/3]).
-export_type([status/0]).

-type status() :: #{waiting := non_neg_integer(), contact => integer(), problem => unicode:chardata()}.

%% Writes the file if the status changed. Ignores errors: the file is only informative.
-spec write(file:filename_all(), status(), status() | none) -> status().
write(_, Status, Status) ->
    Status;
write(Dir, #{waiting := Waiting} = Status, _) ->
    Contact = [[<<",\"contact\":">>, integer_to_binary(At)] || #{contact := At} <- [Status]],
    Problem = [[<<",\"problem\":">>, event_pusher_json:text(unicode:characters_to_binary(Text))]
               || #{problem := Text} <- [Status]],
    New = filename:join(Dir, "status.new"),
    _ = file:write_file(New, [<<"{\"waiting\":">>, integer_to_binary(Waiting), Contact, Problem, <<"}\n">>]),
    _ = file:rename(New, filename:join(Dir, "status")),
    Status.
