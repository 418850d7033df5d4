%%% MongooseIM's census: counts a user's available sessions on all nodes of the cluster. Does not need Mnesia, which
%%% MongooseIM may run without.
%%%
%%% Each node has one such process for each host type. The one that has run longest leads and does all counting: of two
%%% sessions that begin at once on two nodes, one counts 1 and the other 2; of two that end, one counts 0. The others
%%% follow its changes. When it dies, the longest-running of the rest leads, and asks the others for their sessions:
%%% each node knows its own best.
%%%
%%% Invariants:
%%%  - Only a leader that has heard from every process it knows (or waited a second) answers questions.
%%%  - A question stays in `pending` until it is answered, and is repeated after each change of the leader. Asking twice
%%%    is harmless.
%%%  - The leader removes the sessions of a dead node and reports their end. `claims`, kept on disk by every node, tell
%%%    the dead node so when it returns with its ledger.
%%%
%%% The counting itself is in event_pusher_rows, the claims' file in event_pusher_claims.
-module(event_pusher_cluster).
-behaviour(gen_server).

-export([start_link/3]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

%% How long a new leader waits for the others' sessions.
-define(GATHER_MS, 1000).
%% How long the first process of a node waits for the others to introduce themselves.
-define(JOIN_MS, 2000).
-define(TICK_MS, 300).
%% How often to look for unknown nodes.
-define(LOOK_OUT_MS, 5000).
%% Claims are published once their events are surely on disk: an end may be reported twice, but must not be lost.
-define(PUBLISH_MS, 500).
-define(MOVED_MS, 60000).

%% The messages to and from its owner: callback `start_census` of event_pusher_host. It also sends {reclaimed, [Ref]}
%% for sessions of this node that another one believed dead.
-spec start_link(Owner :: pid(), Name :: atom(), File :: file:filename()) -> {ok, pid()}.
start_link(Owner, Name, File) ->
    case gen_server:start_link({local, Name}, ?MODULE, [Owner, Name, File], []) of
        %% Its owner was killed, and it ends in a moment.
        {error, {already_started, Former}} ->
            Ref = monitor(process, Former),
            receive {'DOWN', Ref, process, Former, _} -> start_link(Owner, Name, File) end;
        {ok, Pid} -> {ok, Pid}
    end.

init([Owner, Name, File]) ->
    ok = net_kernel:monitor_nodes(true),
    %% If two begin in the same microsecond, the node's name decides.
    Me = {erlang:system_time(microsecond), node()},
    Joining = maps:from_list([{Node, monitor(process, {Name, Node})} || Node <- nodes()]),
    Claims = event_pusher_claims:read(File),
    S = #{owner => Owner, name => Name, file => File, me => Me, members => #{}, joining => Joining, leader => none,
          waiting => #{}, synced => #{}, rows => #{}, claims => Claims, on_disk => Claims, moved => #{}, knows => false,
          pending => queue:new()},
    erlang:send_after(?TICK_MS, self(), tick),
    erlang:send_after(?LOOK_OUT_MS, self(), look_out),
    erlang:send_after(?JOIN_MS, self(), join_over),
    tell(maps:keys(Joining), {hello, Me, self(), true}, S),
    {ok, elect(S)}.

handle_call(state, _From, S) ->
    {reply, S, S}.

handle_cast(_, S) ->
    {noreply, S}.

handle_info({count, Id, Questions}, #{pending := Pending} = S) ->
    {noreply, ask({Id, Questions}, S#{pending := queue:in({Id, Questions}, Pending)})};
handle_info({hello, {_, Node} = Key, Pid, WantsReply}, #{members := Members, joining := Joining, me := Me} = S) ->
    WantsReply andalso (Pid ! {hello, Me, self(), false}),
    case Members of
        #{Node := {Key, Pid, _}} -> {noreply, S};
        _ ->
            S1 = forget(Node, S),
            S2 = S1#{members := Members#{Node => {Key, Pid, monitor(process, Pid)}}},
            {noreply, elect(joined(Node, S2#{joining := Joining}))}
    end;
handle_info({'DOWN', Ref, process, {_, Node}, _}, #{joining := Joining} = S) ->
    case Joining of
        #{Node := Ref} -> {noreply, elect(joined(Node, S))};
        _ -> {noreply, S}
    end;
%% Either the module was stopped or the node died; a nodedown message shows which.
handle_info({'DOWN', Ref, process, Pid, _}, #{members := Members} = S) ->
    case [Node || {Node, {_, P, R}} <- maps:to_list(Members), P =:= Pid, R =:= Ref] of
        [Node] -> {noreply, elect(forget(Node, S))};
        [] -> {noreply, S}
    end;
handle_info({nodedown, Node}, S) ->
    S1 = elect(forget(Node, joined(Node, S))),
    {noreply, case is_leading(S1) of
                  true -> claim(Node, S1);
                  false -> S1
              end};
handle_info({nodeup, Node}, #{me := Me} = S) ->
    tell([Node], {hello, Me, self(), true}, S),
    {noreply, S};
handle_info(join_over, S) ->
    {noreply, elect(S#{joining := #{}})};
handle_info({gather_over, Me}, #{leader := Me, waiting := Waiting} = S) when map_size(Waiting) > 0 ->
    {noreply, lead(S#{waiting := #{}})};
handle_info({sync, Node, Pid, Mine, Claims}, #{leader := Leader, me := Leader} = S) ->
    {noreply, synced(Node, Pid, Mine, Claims, S)};
handle_info({sync, _, Pid, _, _}, #{leader := Leader} = S) ->
    Leader =/= none andalso (Pid ! {meet, element(2, Leader)}),
    {noreply, S};
handle_info({meet, Node}, #{me := Me} = S) ->
    tell([Node], {hello, Me, self(), true}, S),
    {noreply, S};
handle_info({state, Leader, Rows, Claims}, #{leader := Leader} = S) ->
    S1 = keep_claims(Claims, S#{rows := Rows, knows := true, synced := #{Leader => true}}),
    {noreply, ask_all(S1)};
handle_info({ask, Pid, Id, Questions}, S) ->
    case is_leading(S) of
        true ->
            {Answers, Changed, Moved, S1} = answer(Questions, S),
            Pid ! {answered, map_get(me, S), Id, Answers, Changed, Moved},
            publish(Changed, Moved, Pid, S1),
            {noreply, S1};
        false -> {noreply, S}
    end;
handle_info({answered, Leader, Id, Answers, Changed, Moved}, #{leader := Leader} = S) ->
    {noreply, answered(Id, Answers, follow(Changed, Moved, S))};
handle_info({changed, Leader, Changed, Moved}, #{leader := Leader} = S) ->
    {noreply, follow(Changed, Moved, S)};
handle_info({claims, Leader, Claims}, #{leader := Leader} = S) ->
    {noreply, keep_claims(Claims, S)};
handle_info(publish_claims, #{claims := Claims, members := Members, me := Me} = S) ->
    lists:foreach(fun({_, Pid, _}) -> Pid ! {claims, Me, Claims} end, [One || is_leading(S), One <- maps:values(Members)]),
    {noreply, keep_claims(Claims, S)};
handle_info({reclaimed, Refs}, #{owner := Owner} = S) ->
    Owner ! {reclaimed, Refs},
    {noreply, S};
handle_info(tick, S) ->
    erlang:send_after(?TICK_MS, self(), tick),
    {noreply, remind(S)};
handle_info(look_out, #{moved := Moved, members := Members, me := Me} = S) ->
    erlang:send_after(?LOOK_OUT_MS, self(), look_out),
    tell([Node || Node <- nodes(), not is_map_key(Node, Members)], {hello, Me, self(), true}, S),
    Since = os:system_time(millisecond) - ?MOVED_MS,
    {noreply, S#{moved := maps:filter(fun(_, {_, At}) -> At > Since end, Moved)}};
handle_info(_, S) ->
    {noreply, S}.

%%%------------------------------------------------------------------------------------------------ who leads

joined(Node, #{joining := Joining} = S) ->
    case maps:take(Node, Joining) of
        {Ref, Rest} ->
            demonitor(Ref, [flush]),
            S#{joining := Rest};
        error -> S
    end.

forget(Node, #{members := Members, waiting := Waiting} = S) ->
    case maps:take(Node, Members) of
        {{_, _, Ref}, Rest} ->
            demonitor(Ref, [flush]),
            S#{members := Rest, waiting := maps:remove(Node, Waiting)};
        error -> S
    end.

%% No leader until all have introduced themselves, so that no longer-running process is passed over.
elect(#{joining := Joining} = S) when map_size(Joining) > 0 ->
    S;
elect(#{members := Members, me := Me, leader := Former} = S) ->
    case lists:min([Me | [Key || {Key, _, _} <- maps:values(Members)]]) of
        Former when Former =:= Me -> gathered(S);
        Former -> S;
        Me when map_size(Members) =:= 0 -> lead(S#{leader := Me, waiting := #{}, synced := #{}});
        Me ->
            erlang:send_after(?GATHER_MS, self(), {gather_over, Me}),
            S#{leader := Me, waiting := maps:map(fun(_, _) -> none end, Members), synced := #{}};
        Leader -> remind(S#{leader := Leader, synced := #{}, waiting := #{}})
    end.

%% A process that has just joined asks for the state itself; the leader waits only for those present when it began to
%% lead.
gathered(#{waiting := Waiting, synced := Synced} = S) when map_size(Waiting) =:= 0, not is_map_key(lead, Synced) ->
    lead(S);
gathered(S) ->
    S.

is_leading(#{leader := Leader, me := Leader, synced := #{lead := true}}) -> true;
is_leading(_) -> false.

%% All answered: sends them the state, reports sessions that died meanwhile, and answers questions.
lead(#{rows := Rows, synced := Synced} = S) ->
    S1 = S#{knows := true, synced := Synced#{lead => true}},
    lists:foreach(fun(Pid) -> Pid ! state_message(S1) end, [Pid || {member, Pid} <- maps:values(Synced)]),
    Alive = [node() | nodes()],
    Holders = lists:usort([Node || Sessions <- maps:values(Rows), {{Node, _, _}, _} <- Sessions]),
    S2 = lists:foldl(fun claim/2, S1, Holders -- Alive),
    ask_all(S2).

state_message(#{me := Me, rows := Rows, claims := Claims}) ->
    {state, Me, Rows, Claims}.

%% A member hands over its own sessions. Those believed dead during a network split are not counted until their node
%% begins them again.
synced(Node, Pid, Mine, Claims, #{rows := Rows, claims := Known, waiting := Waiting, synced := Synced} = S) ->
    All = maps:merge(Claims, Known),
    S1 = S#{rows := event_pusher_rows:with_sessions(Node, Mine, Rows), waiting := maps:remove(Node, Waiting),
            synced := Synced#{Node => {member, Pid}}},
    #{rows := Rows2} = S2 = revive_believed_dead(keep_claims(All, S1)),
    case is_leading(S2) of
        true ->
            publish(event_pusher_rows:difference(Rows, Rows2), #{}, Pid, S2),
            Pid ! state_message(S2),
            S2;
        false -> gathered(S2)
    end.

revive_believed_dead(#{rows := Rows, claims := Claims} = S) ->
    case [{User, Ref} || {User, Sessions} <- maps:to_list(Rows), {Ref, _} <- Sessions, is_map_key(Ref, Claims)] of
        [] -> S;
        Found ->
            Refs = [Ref || {_, Ref} <- Found],
            lists:foreach(fun(Node) -> tell_reclaimed(Node, [Ref || {N, _, _} = Ref <- Refs, N =:= Node], S) end,
                          lists:usort([Node || {Node, _, _} <- Refs])),
            publish_claims_soon(),
            S#{rows := event_pusher_rows:without(Found, Rows), claims := maps:without(Refs, Claims)}
    end.

tell_reclaimed(Node, Refs, #{owner := Owner}) when Node =:= node() ->
    Owner ! {reclaimed, Refs};
tell_reclaimed(Node, Refs, S) ->
    tell([Node], {reclaimed, Refs}, S).

publish_claims_soon() ->
    erlang:send_after(?PUBLISH_MS, self(), publish_claims).

%% Introduces itself and asks for the state again until the leader answers: that one may not know yet that it leads.
remind(#{leader := {_, Leading} = Leader, me := Me, synced := Synced, members := Members} = S)
  when Leader =/= Me, not is_map_key(Leader, Synced) ->
    tell([Leading], {hello, Me, self(), true}, S),
    #{Leading := {_, Pid, _}} = Members,
    Pid ! {sync, node(), self(), own_sessions(S), map_get(claims, S)},
    S;
remind(S) ->
    S.

%% A process that has just started does not know: its owner still reads the ledger.
own_sessions(#{knows := false}) ->
    unknown;
own_sessions(#{rows := Rows}) ->
    [{Ref, User, Resource} || {User, Sessions} <- maps:to_list(Rows), {{Node, _, _} = Ref, Resource} <- Sessions,
                              Node =:= node()].

tell(Nodes, Message, #{name := Name}) ->
    lists:foreach(fun(Node) -> {Name, Node} ! Message end, Nodes).

%%%------------------------------------------------------------------------------------------ questions and answers

ask_all(#{pending := Pending} = S) ->
    lists:foldl(fun ask/2, S, queue:to_list(Pending)).

ask({Id, Questions}, #{leader := Leader, synced := Synced, members := Members} = S) ->
    case is_leading(S) of
        true ->
            {Answers, Changed, Moved, S1} = answer(Questions, S),
            publish(Changed, Moved, self(), S1),
            answered(Id, Answers, S1);
        false when is_map_key(Leader, Synced) ->
            #{Leader := true} = Synced,
            {_, Node} = Leader,
            #{Node := {_, Pid, _}} = Members,
            Pid ! {ask, self(), Id, Questions},
            S;
        false -> S
    end.

answered(Id, Answers, #{owner := Owner, pending := Pending} = S) ->
    case queue:out(Pending) of
        {{value, {Id, _}}, Rest} ->
            Owner ! {counted, Id, Answers},
            S#{pending := Rest};
        %% Asked twice because the leader changed.
        _ -> S
    end.

answer(Questions, #{rows := Rows, claims := Claims, moved := Moved} = S) ->
    {Answers, {Rows1, Claims1, Moved1}} = event_pusher_rows:answer(Questions, {Rows, Claims, Moved}),
    Claims1 =:= Claims orelse publish_claims_soon(),
    Users = lists:usort([event_pusher_rows:user(Question) || Question <- Questions]),
    Changed = [{User, maps:get(User, Rows1, [])} || User <- Users,
                                                    maps:get(User, Rows1, []) =/= maps:get(User, Rows, [])],
    MovedNow = maps:filter(fun(Origin, Move) -> maps:get(Origin, Moved, none) =/= Move end, Moved1),
    {Answers, Changed, MovedNow, S#{rows := Rows1, claims := Claims1, moved := Moved1}}.

%% The asking node gets the change with its answer.
publish([], _, _, _) ->
    ok;
publish(Changed, Moved, Asker, #{synced := Synced, me := Me}) ->
    lists:foreach(fun(Pid) -> Pid ! {changed, Me, Changed, Moved} end,
                  [Pid || {member, Pid} <- maps:values(Synced), Pid =/= Asker]).

follow(Changed, MovedNow, #{rows := Rows, moved := Moved} = S) ->
    S#{rows := lists:foldl(fun({User, Row}, Acc) -> event_pusher_rows:put(User, Row, Acc) end, Rows, Changed),
       moved := maps:merge(Moved, MovedNow)}.

%%%------------------------------------------------------------------------------------------ nodes that died

claim(Node, #{rows := Rows, owner := Owner, claims := Claims} = S) ->
    case event_pusher_rows:of_node(Node, Rows) of
        [] -> S;
        Dead ->
            Owner ! {claimed, lists:flatmap(fun event_pusher_rows:ends/1, Dead)},
            publish_claims_soon(),
            Changed = [{User, Sessions -- Gone} || {User, Gone, Sessions} <- Dead],
            publish(Changed, #{}, self(), S),
            At = os:system_time(millisecond),
            Refs = maps:from_list([{Ref, At} || {_, Gone, _} <- Dead, {Ref, _} <- Gone]),
            follow(Changed, #{}, S#{claims := maps:merge(Claims, Refs)})
    end.

keep_claims(Claims, #{file := File, on_disk := Former} = S) ->
    Kept = event_pusher_claims:keep(Claims, Former, File),
    S#{claims := Kept, on_disk := Kept}.
