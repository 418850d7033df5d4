%%% The open sessions: which exist, which are taken over by a new process, and which ended unnoticed.
%%%
%%% Invariants:
%%%  - A session is identified by a key (its process, or a key that the server's adapter chooses) and by a reference
%%%    that stays when another process takes it over. Its address is no identity: a replaced session and its successor
%%%    share it for a moment.
%%%  - Each `up` is followed by exactly one `down` or `expire`.
%%%  - This is the present state; the queue's ledger is the committed one.
%%%
%%% Each function returns the changes to commit, in order (event_pusher_changes), and the new state. Processes used as
%%% keys are monitored, because a killed process runs no hook.
-module(event_pusher_sessions).

-export([run/0, new/1, seen/2, handover_over/4, end_all/2, before/2, reconcile/4, revive/1, reclaimed/3]).
-export_type([sessions/0, usr/0, key/0, ref/0, seen/0]).

-type usr() :: {User :: binary(), Host :: binary(), Resource :: binary()}.
-type key() :: pid() | term().
%% Includes the run of the virtual machine: a process of another run is gone, even if its process id exists again.
-type ref() :: {node(), Run :: binary(), integer() | key()}.
-type at() :: integer().
%% The items that the hooks put into the inbox.
-type seen() :: {available | unavailable | handed_over | resumed, at(), key(), usr()} | {ended, at(), key()}
              %% With keys that identify resumed sessions: taken over from another node; not resumed in time.
              | {taken_over, at(), key(), usr()} | {expired, at(), key()}.

-record(sessions, {run :: binary(),
                   keys = #{} :: #{key() => {ref(), usr(), reference() | none}},
                   addresses = #{} :: #{usr() => [key()]},
                   handover = #{} :: #{usr() => {ref(), reference()}},
                   %% Newest first.
                   changes = [] :: [event_pusher_changes:change()]}).

-opaque sessions() :: #sessions{}.

%% How long to remember a resumed session's former process, until the new one, perhaps on another node, takes over.
-define(HANDOVER_MS, 10000).

%% The identity of this run of the virtual machine.
-spec run() -> binary().
run() ->
    case persistent_term:get({?MODULE, run}, none) of
        none ->
            <<N:64>> = crypto:strong_rand_bytes(8),
            Run = iolist_to_binary(io_lib:format("~16.16.0b", [N])),
            persistent_term:put({?MODULE, run}, Run),
            Run;
        Run -> Run
    end.

-spec new(Run :: binary()) -> sessions().
new(Run) ->
    #sessions{run = Run}.

%% Applies one item of the hooks.
-spec seen(seen(), sessions()) -> {[event_pusher_changes:change()], sessions()}.
seen({available, At, Key, USR}, S) -> changes(available(At, Key, USR, S));
seen({unavailable, At, Key, _}, S) -> changes(unavailable(At, Key, S));
seen({ended, At, Key}, S) -> changes(unavailable(At, Key, S));
seen({handed_over, At, Key, USR}, S) -> changes(handed_over(At, Key, USR, S));
seen({resumed, At, Key, USR}, S) -> changes(resumed(At, Key, USR, S));
seen({taken_over, At, Key, USR}, S) -> changes(taken_over(At, Key, USR, S));
seen({expired, At, Key}, S) -> changes(expired(At, Key, S)).

%% No process took over the session in time, as the message {handover_over, Ref, USR, At} reported.
-spec handover_over(ref(), usr(), at(), sessions()) -> {[event_pusher_changes:change()], sessions()}.
handover_over(Ref, USR, At, #sessions{handover = Handover} = S) ->
    case Handover of
        #{USR := {Ref, _}} -> changes(add({expire, At, Ref, USR}, S#sessions{handover = maps:remove(USR, Handover)}));
        _ -> {[], S}
    end.

%% Ends all sessions because the server stops.
-spec end_all(at(), sessions()) -> {[event_pusher_changes:change()], sessions()}.
end_all(At, #sessions{keys = Keys, handover = Handover} = S) ->
    S1 = lists:foldl(fun(Key, Acc) -> unavailable(At, Key, Acc) end, S, maps:keys(Keys)),
    changes(maps:fold(fun(USR, {Ref, _}, Acc) -> add({expire, At, Ref, USR}, Acc) end,
                      S1#sessions{handover = #{}}, Handover)).

%% At a start: finds which sessions of the ledger live on (only this module was stopped), which ended meanwhile or with
%% the server's former run, and which are new.
-spec reconcile(at(), event_pusher_segment:ledger(), #{key() => usr()}, sessions()) ->
          {[event_pusher_changes:change()], sessions()}.
reconcile(At, Ledger, Present, S) ->
    {Ours, Former} = lists:partition(fun({Ref, _}) -> is_of_this_run(Ref, S) end, maps:to_list(Ledger)),
    Known = [Key || {_, {_, Key, _}} <- Ours],
    Newcomers = maps:from_list([{USR, Key} || {Key, USR} <- maps:to_list(maps:without(Known, Present))]),
    %% First confirms all of them, so that the users' counts go down one by one.
    S0 = lists:foldl(fun add/2, S, [{revive, Ref, USR} || {Ref, {USR, _, _}} <- maps:to_list(Ledger)]),
    S1 = lists:foldl(fun(Entry, Acc) -> live_on(At, Entry, Present, Newcomers, Acc) end, S0, Ours),
    Dead = [{dead, At, Ref, USR, Position} || {Ref, {USR, _, Position}} <- Former],
    S2 = lists:foldl(fun add/2, S1, Dead),
    changes(maps:fold(fun(Key, USR, Acc) -> available(At, Key, USR, Acc) end, S2, Present)).

%% Which sessions existed before these items, given those that exist now.
-spec before([seen() | term()], #{key() => usr()}) -> #{key() => usr()}.
before(Seen, Present) ->
    lists:foldr(fun was_present/2, Present, Seen).

was_present({What, _, Key, _}, Present) when What =:= available; What =:= resumed; What =:= taken_over ->
    maps:remove(Key, Present);
was_present({What, _, Key, USR}, Present) when What =:= unavailable; What =:= handed_over ->
    Present#{Key => USR};
was_present(_, Present) ->
    Present.

%% Repeats all sessions to a census that has lost its state.
-spec revive(sessions()) -> {[event_pusher_changes:change()], sessions()}.
revive(#sessions{keys = Keys} = S) ->
    {[{revive, Ref, USR} || {Ref, USR, _} <- maps:values(Keys)], S}.

%% Another node believed this one dead and reported their end: begins them again.
-spec reclaimed(at(), [ref()], sessions()) -> {[event_pusher_changes:change()], sessions()}.
reclaimed(At, Refs, #sessions{keys = Keys} = S) ->
    {[{up, At, Ref, USR, Key} || {Key, {Ref, USR, _}} <- maps:to_list(Keys), lists:member(Ref, Refs)], S}.

is_of_this_run({Node, Run, _}, #sessions{run = Run}) -> Node =:= node();
is_of_this_run(_, _) -> false.

%% A session of the same address with another key was resumed unnoticed.
live_on(At, {Ref, {USR, Key, _}}, Present, Newcomers, #sessions{keys = Keys} = S) ->
    case {is_map_key(Key, Present) andalso not is_map_key(Key, Keys), Newcomers} of
        {true, _} -> bind(Key, Ref, USR, S);
        {false, #{USR := New}} when not is_map_key(New, Keys) -> add({move, Ref, New}, bind(New, Ref, USR, S));
        _ -> add({down, At, Ref, USR}, S)
    end.

available(At, Key, USR, #sessions{keys = Keys, addresses = Addresses} = S) ->
    case is_map_key(Key, Keys) of
        true -> S;
        false ->
            %% A session that this one replaces may end late, but must end first.
            Replaced = maps:get(USR, Addresses, []),
            S1 = lists:foldl(fun(Former, Acc) -> replaced(At, Former, Acc) end, S, Replaced),
            Ref = new_ref(Key, S),
            add({up, At, Ref, USR, Key}, bind(Key, Ref, USR, S1))
    end.

%% A session whose key is not its process may have been resumed on another node, which then owns it.
replaced(At, Key, S) when is_pid(Key) -> unavailable(At, Key, S);
replaced(At, Key, S) -> expired(At, Key, S).

unavailable(At, Key, S) ->
    case unbind(Key, S) of
        {{Ref, USR}, S1} -> add({down, At, Ref, USR}, S1);
        none -> S
    end.

expired(At, Key, S) ->
    case unbind(Key, S) of
        {{Ref, USR}, S1} -> add({expire, At, Ref, USR}, S1);
        none -> S
    end.

%% A resumed session's former process ends. If the new one was seen already, there is nothing to hand over.
handed_over(At, Key, USR, S) ->
    case unbind(Key, S) of
        {{Ref, USR}, #sessions{handover = Handover} = S1} ->
            Timer = erlang:send_after(?HANDOVER_MS, self(), {handover_over, Ref, USR, At}),
            S1#sessions{handover = Handover#{USR => {Ref, Timer}}};
        _ -> S
    end.

%% No event: the new process takes over the session's entry. If this node has none, the session comes from another node
%% of the cluster; the census finds out.
resumed(At, Key, USR, #sessions{handover = Handover, addresses = Addresses} = S) ->
    case {Handover, [Other || Other <- maps:get(USR, Addresses, []), Other =/= Key]} of
        {#{USR := {Ref, Timer}}, _} ->
            _ = erlang:cancel_timer(Timer),
            add({move, Ref, Key}, bind(Key, Ref, USR, S#sessions{handover = maps:remove(USR, Handover)}));
        {_, [Former | _]} ->
            {{Ref, _}, S1} = unbind(Former, S),
            add({move, Ref, Key}, bind(Key, Ref, USR, S1));
        {_, []} -> taken_over(At, Key, USR, S)
    end.

taken_over(At, Key, USR, S) ->
    Ref = new_ref(Key, S),
    add({take, At, Ref, USR, Key}, bind(Key, Ref, USR, S)).

bind(Key, Ref, USR, #sessions{keys = Keys, addresses = Addresses} = S) ->
    Monitor = case is_pid(Key) of
                  true -> erlang:monitor(process, Key);
                  false -> none
              end,
    S#sessions{keys = Keys#{Key => {Ref, USR, Monitor}},
               addresses = Addresses#{USR => [Key | maps:get(USR, Addresses, [])]}}.

unbind(Key, #sessions{keys = Keys, addresses = Addresses} = S) ->
    case maps:take(Key, Keys) of
        {{Ref, USR, Monitor}, Rest} ->
            _ = Monitor =/= none andalso erlang:demonitor(Monitor, [flush]),
            Addresses1 = case lists:delete(Key, maps:get(USR, Addresses, [])) of
                             [] -> maps:remove(USR, Addresses);
                             Others -> Addresses#{USR => Others}
                         end,
            {{Ref, USR}, S#sessions{keys = Rest, addresses = Addresses1}};
        error -> none
    end.

%% A key that is not a process is unique and becomes part of the reference.
new_ref(Key, #sessions{run = Run}) when is_pid(Key) -> {node(), Run, erlang:unique_integer([positive])};
new_ref(Key, #sessions{run = Run}) -> {node(), Run, Key}.

add(Change, #sessions{changes = Changes} = S) ->
    S#sessions{changes = [Change | Changes]}.

changes(#sessions{changes = Changes} = S) ->
    {lists:reverse(Changes), S#sessions{changes = []}}.
