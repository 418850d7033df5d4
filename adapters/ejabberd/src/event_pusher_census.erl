%%% ejabberd's census: counts a user's available sessions on all nodes of the cluster.
%%%
%%% A replicated Mnesia table lists the sessions of each user as {Ref, Resource}; a transaction locks the user's row and
%%% counts. So of two sessions that begin at once on two nodes, one counts 1 and the other 2; of two that end, one
%%% counts 0. The census runs in a process of its own, because a transaction can block on a node that hangs.
%%%
%%% When a node dies, the survivors remove its sessions from the table. A transaction gives each session to one
%%% survivor, which reports its end. A claim, kept on disk, tells the dead node so when it returns with its ledger.
%%%
%%% The messages to and from this process: callback `start_census` of event_pusher_host.
-module(event_pusher_census).

-export([start_link/3]).
-export([init/3]).

-define(SESSIONS, event_pusher_session).
-define(CLAIMS, event_pusher_claim).
-define(LOAD_MS, 10000).
-define(RETRY_MS, 5000).

-type user() :: {User :: binary(), Host :: binary()}.
-type row() :: [{event_pusher_sessions:ref(), Resource :: binary()}].

-spec start_link(pid(), binary(), binary()) -> pid().
start_link(Owner, Host, Run) ->
    spawn_link(?MODULE, init, [Owner, Host, Run]).

-spec init(pid(), binary(), binary()) -> no_return().
init(Owner, Host, Run) ->
    {ok, _} = mnesia:subscribe(system),
    census(Owner, Host, Run, prepare(Owner, Host, Run)).

census(Owner, Host, Run, Ready) ->
    receive
        {count, Id, Ops} ->
            Owner ! {counted, Id, count(Host, Ops, Ready)},
            census(Owner, Host, Run, Ready);
        {mnesia_system_event, {mnesia_down, Node}} when Ready ->
            claim(Owner, Host, Run, Node),
            census(Owner, Host, Run, Ready);
        _ ->
            census(Owner, Host, Run, Ready)
    after ?RETRY_MS ->
        case Ready of
            true -> census(Owner, Host, Run, true);
            false -> census(Owner, Host, Run, prepare(Owner, Host, Run))
        end
    end.

prepare(Owner, Host, Run) ->
    case [Reason || {Table, Type, Attributes} <- [{?SESSIONS, ram_copies, [user, sessions]},
                                                  {?CLAIMS, disc_copies, [run, claimant]}],
                    {error, Reason} <- [table(Table, Type, Attributes)]] of
        [] ->
            %% Nodes that died while no node of this host was running.
            Running = mnesia:system_info(running_db_nodes),
            Others = lists:usort([Node || {_, _, Sessions} <- rows(Host), {{Node, _, _}, _} <- Sessions]) -- Running,
            lists:foreach(fun(Node) -> claim(Owner, Host, Run, Node) end, Others),
            true;
        [Reason | _] ->
            event_pusher_log:log(error, "~ts: can't create the table of the cluster's sessions (~0p); sending events without a count",
                [Host, Reason]),
            false
    end.

table(Table, Type, Attributes) ->
    case mnesia:create_table(Table, [{Type, [node()]}, {attributes, Attributes}]) of
        {atomic, ok} -> loaded(Table);
        {aborted, {already_exists, _}} -> copy_here(Table);
        %% A node without a schema on disk.
        {aborted, {bad_type, _, disc_copies, _}} -> table(Table, ram_copies, Attributes);
        {aborted, Reason} -> {error, Reason}
    end.

copy_here(Table) ->
    case mnesia:table_info(Table, storage_type) of
        unknown ->
            [Holder | _] = mnesia:table_info(Table, where_to_commit),
            {_, Type} = Holder,
            case mnesia:add_table_copy(Table, node(), Type) of
                {atomic, ok} -> loaded(Table);
                {aborted, {already_exists, _, _}} -> loaded(Table);
                {aborted, Reason} -> {error, Reason}
            end;
        _ -> loaded(Table)
    end.

loaded(Table) ->
    case mnesia:wait_for_tables([Table], ?LOAD_MS) of
        ok -> ok;
        {timeout, _} -> {error, timeout};
        {error, Reason} -> {error, Reason}
    end.

rows(Host) ->
    mnesia:dirty_select(?SESSIONS, [{{?SESSIONS, {'_', Host}, '_'}, [], ['$_']}]).

count(_, Ops, false) ->
    [unknown || _ <- Ops];
count(Host, Ops, true) ->
    lists:append([count_part(Host, Part) || Part <- slices(Ops, 300)]).

%% All nodes lock the rows in the same order, so that transactions rarely conflict.
count_part(Host, Ops) ->
    Count = fun() ->
                    Users = lists:usort([element(3, Op) || Op <- Ops]),
                    Rows = maps:from_list([{User, read_row(User)} || User <- Users]),
                    {Counts, Rows1} = lists:mapfoldl(fun(Op, Acc) -> count_one(Op, Host, Acc) end, Rows, Ops),
                    Changed = [User || User <- Users, map_get(User, Rows1) =/= map_get(User, Rows)],
                    lists:foreach(fun(User) -> write_row(User, map_get(User, Rows1)) end, Changed),
                    Counts
            end,
    case mnesia:transaction(Count) of
        {atomic, Counts} -> Counts;
        {aborted, Reason} ->
            event_pusher_log:log(warning, "~ts: counting sessions failed: ~0p", [Host, Reason]),
            [unknown || _ <- Ops]
    end.

count_one(Op, Host, Rows) ->
    User = element(3, Op),
    Row = map_get(User, Rows),
    {Count, Row1} = count_op(Op, Host, Row),
    {Count, Rows#{User := Row1}}.

count_op({up, Ref, _, Resource}, _, Row) ->
    entered(Ref, Resource, Row);
count_op({down, Ref, _}, _, Row) ->
    left(Ref, Row);
count_op({expire, Ref, _}, _, Row) ->
    case lists:keymember(Ref, 1, Row) of
        true -> left(Ref, Row);
        false -> {{gone, length(Row)}, Row}
    end;
%% Resumed here; began on another node.
count_op({take, Ref, _, Resource}, _, Row) ->
    case [Other || {{Node, _, _}, R} = Other <- Row, R =:= Resource, Node =/= node()] of
        [{Former, _} | _] -> {taken, lists:keyreplace(Former, 1, Row, {Ref, Resource})};
        [] -> entered(Ref, Resource, Row)
    end;
%% A session of an earlier run of this node, unless a survivor reported the end of that run's sessions.
count_op({revive, {Node, Former, _} = Ref, _, Resource}, Host, Row) ->
    case is_claimed({Host, Node, Former}) of
        true -> {{gone, length(Row)}, Row};
        false -> entered(Ref, Resource, Row)
    end.

entered(Ref, Resource, Row) ->
    Row1 = lists:keystore(Ref, 1, Row, {Ref, Resource}),
    {{ok, length(Row1)}, Row1}.

left(Ref, Row) ->
    Row1 = lists:keydelete(Ref, 1, Row),
    {{ok, length(Row1)}, Row1}.

%% Whether a survivor reported the end of the sessions of an earlier run.
is_claimed(Key) ->
    mnesia:read(?CLAIMS, Key, write) =/= [].

%% Reads the sessions before checking whether the node is back, so that they can only belong to its former run.
claim(Owner, Host, Run, Node) ->
    Found = [{User, [Ref || {{N, _, _} = Ref, _} <- Sessions, N =:= Node]} || {_, User, Sessions} <- rows(Host)],
    case lists:member(Node, mnesia:system_info(running_db_nodes)) of
        true -> ok;
        false ->
            lists:foreach(fun(Part) -> Owner ! {claimed, claim_part(Host, Run, Node, Part)} end,
                          slices(lists:sort([One || {_, [_ | _]} = One <- Found]), 100))
    end.

claim_part(Host, Run, Node, Found) ->
    Claim = fun() -> lists:append([claim_user(Host, Run, Node, User, Refs) || {User, Refs} <- Found]) end,
    case mnesia:transaction(Claim) of
        {atomic, Left} -> Left;
        {aborted, Reason} ->
            event_pusher_log:log(error, "~ts: taking over the sessions of ~ts failed: ~0p", [Host, Node, Reason]),
            []
    end.

claim_user(Host, Run, Node, {Name, _} = User, Refs) ->
    Row = read_row(User),
    Mine = [{Ref, Resource} || {Ref, Resource} <- Row, lists:member(Ref, Refs)],
    lists:foreach(fun(Former) -> ok = mnesia:write({?CLAIMS, {Host, Node, Former}, {node(), Run}}) end,
                  lists:usort([R || {{_, R, _}, _} <- Mine])),
    Rest = Row -- Mine,
    _ = Mine =/= [] andalso write_row(User, Rest),
    Counts = lists:seq(length(Rest) + length(Mine) - 1, length(Rest), -1),
    [{{Name, Host, Resource}, Count} || {{_, Resource}, Count} <- lists:zip(Mine, Counts)].

-spec read_row(user()) -> row().
read_row(User) ->
    case mnesia:read(?SESSIONS, User, write) of
        [{_, _, Sessions}] -> Sessions;
        [] -> []
    end.

-spec write_row(user(), row()) -> ok.
write_row(User, []) -> mnesia:delete({?SESSIONS, User});
write_row(User, Sessions) -> mnesia:write({?SESSIONS, User, Sessions}).

slices([], _) -> [];
slices(List, N) when length(List) =< N -> [List];
slices(List, N) ->
    {Slice, Rest} = lists:split(N, List),
    [Slice | slices(Rest, N)].
