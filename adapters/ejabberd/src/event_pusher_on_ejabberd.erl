%%% The parts of the adapter that call ejabberd, except the module's options: hooks, sessions, and the callbacks of
%%% event_pusher_host.
%%%
%%% This is not part of mod_event_pusher because ejabberd removes that module's code while it compiles a newer version:
%%% hooks and processes keep running until the new version starts.
%%%
%%% Invariants:
%%%  - A hook never waits and never fails: it only puts an item into the inbox.
%%%  - No record and no header of ejabberd is used, so that one source compiles on all versions from 23.01.
%%%  - A newer mod_event_pusher calls this version's `stop_for_newer`, so its interface must not change.
-module(event_pusher_on_ejabberd).
-behaviour(event_pusher_host).

-export([start/2, reload/2, stop/2, linger/2, stop_for_newer/1, forget/1, waiting/1]).
-export([options/1, stop_now/1, jid_text/1, tls_options/0, present_sessions/1, is_stopping/1, hooks/2, start_census/3]).
-export([user_send_packet/1, filter_packet/1, c2s_self_presence/1, unset_presence/4, c2s_session_resumed/1, c2s_terminated/2]).

%% How long a host's hooks wait for the newer version, whose configuration may no longer have the host.
-define(NEWER_MS, 60000).

-type state() :: map().
-type stanza() :: tuple().

%%%----------------------------------------------------------------------------------------------------- the process

%% After a restart the module finds its process still running, so it misses no events.
-spec start(binary(), event_pusher_host:options()) -> {ok, pid()} | {error, term()}.
start(Host, Options) ->
    persistent_term:put({?MODULE, Host}, Options),
    case event_pusher_server:stay(proc(Host)) of
        {ok, Pid} -> {ok, Pid};
        none ->
            _ = stop_now(Host),
            start_process(Host)
    end.

%% Not gen_mod:start_child/3: with the option max_fsm_queue it would kill the process for a long mailbox.
start_process(Host) ->
    Proc = proc(Host),
    Config = #{name => Proc, host => Host, source => event_pusher_host:source("ejabberd", Host),
               dir => dir(Host), server => ?MODULE},
    Start = {event_pusher_server, start_link, [Config]},
    supervisor:start_child(ejabberd_gen_mod_sup, {Proc, Start, transient, 60000, worker, [event_pusher_server]}).

-spec reload(binary(), event_pusher_host:options()) -> ok.
reload(Host, Options) ->
    persistent_term:put({?MODULE, Host}, Options),
    event_pusher_server:reload(proc(Host)).

%% Stops at once with the server. Otherwise after a delay: ejabberd does not say whether it will start the module again.
-spec stop(binary(), pos_integer()) -> ok | {error, term()}.
stop(Host, Ms) ->
    case is_stopping(Host) of
        true -> stop_now(Host);
        false -> linger(Host, Ms)
    end.

-spec linger(binary(), pos_integer()) -> ok.
linger(Host, Ms) ->
    event_pusher_server:leave(proc(Host), Ms).

-spec stop_now(binary()) -> ok | {error, term()}.
stop_now(Host) ->
    gen_mod:stop_child(proc(Host)).

%% Stops only the process, if there is one.
-spec stop_for_newer(binary()) -> ok | none.
stop_for_newer(Host) ->
    case event_pusher_server:hand_over(proc(Host)) of
        ok ->
            _ = stop_now(Host),
            ok;
        none -> none
    end.

%% Deletes the hooks of hosts that the newer version was not started for.
-spec forget([binary()]) -> ok.
forget(Hosts) ->
    timer:sleep(?NEWER_MS),
    lists:foreach(fun(Host) ->
                          whereis(proc(Host)) =:= undefined andalso forget_host(Host)
                  end, Hosts).

forget_host(Host) ->
    ok = hooks(delete, Host),
    event_pusher_inbox:delete({?MODULE, Host}).

%% How many events are not delivered yet; `none` if nothing was started.
-spec waiting(binary()) -> integer() | none.
waiting(Host) ->
    event_pusher_inbox:held_of({?MODULE, Host}).

proc(Host) ->
    gen_mod:get_module_proc(Host, mod_event_pusher).

%% The name in UTF-8 whatever the locale: without one, older OTPs take names to be Latin-1, which does not have all
%% characters. Until 0.1.0 such a folder had its name in that.
dir(Host) ->
    Parent = filename:join(mnesia:system_info(directory), "event_pusher"),
    Dir = filename:join(Parent, Host),
    _ = file:rename(filename:join(Parent, unicode:characters_to_list(Host)), Dir),
    Dir.

%%%---------------------------------------------------------------------------------- what event_pusher_host asks ejabberd

%% The current options: a process restarted after a crash must not use outdated ones.
-spec options(binary()) -> event_pusher_host:options().
options(Host) ->
    persistent_term:get({?MODULE, Host}).

-spec jid_text(event_pusher_sessions:usr()) -> binary().
jid_text(USR) ->
    jid:encode(USR).

%% ejabberd's option ca_file names the trusted certificates (default: the system's store); OTP's store is the fallback.
-spec tls_options() -> [ssl:tls_client_option()].
tls_options() ->
    File = ejabberd_option:ca_file(),
    case filelib:is_regular(File) of
        true -> [{cacertfile, File}];
        false ->
            case erlang:function_exported(public_key, cacerts_get, 0) of
                true -> [{cacerts, apply(public_key, cacerts_get, [])}];
                false -> [{cacerts, []}]
            end
    end.

%% The available sessions of this node.
-spec present_sessions(binary()) -> #{pid() => event_pusher_sessions:usr()}.
present_sessions(Host) ->
    Users = lists:usort([User || {User, _, _} <- ejabberd_sm:get_vh_session_list(Host)]),
    maps:from_list([{Pid, {User, Host, Resource}}
                    || User <- Users,
                       {Resource, Info} <- ejabberd_sm:get_user_info(User, Host),
                       is_integer(proplists:get_value(priority, Info)),
                       Pid <- [proplists:get_value(pid, Info)], node(Pid) =:= node(), is_process_alive(Pid)]).

-spec is_stopping(binary()) -> boolean().
is_stopping(Host) ->
    whereis(ejabberd_sm) =:= undefined orelse not lists:member(Host, ejabberd_option:hosts()).

-spec start_census(pid(), binary(), binary()) -> pid().
start_census(Owner, Host, Run) ->
    event_pusher_census:start_link(Owner, Host, Run).

%% c2s_terminated runs before mod_stream_mgmt (50), which stops the hook for a resumed session's former process.
%% filter_packet is a global hook.
-spec hooks(add | delete, binary()) -> ok.
hooks(AddOrDelete, Host) ->
    lists:foreach(fun({Hook, Function, Priority}) ->
                          ejabberd_hooks:AddOrDelete(Hook, Host, ?MODULE, Function, Priority)
                  end, [{user_send_packet, user_send_packet, 90},
                        {c2s_self_presence, c2s_self_presence, 20},
                        {unset_presence_hook, unset_presence, 20},
                        {c2s_session_resumed, c2s_session_resumed, 20},
                        {c2s_terminated, c2s_terminated, 20}]),
    Others = [Other || Other <- ejabberd_option:hosts(), Other =/= Host,
                       waiting(Other) =/= none],
    case AddOrDelete of
        delete when Others =/= [] -> ok;
        _ -> ejabberd_hooks:AddOrDelete(filter_packet, ?MODULE, filter_packet, 900)
    end.

%%%--------------------------------------------------------------------------- hooks, run by the session's process
%%%
%%% A message passes two hooks in the same process. In the first the sender is known: a session, or the server in a
%%% user's name. Between them the server discards what the user may not send: by filters, privacy lists and block lists.
%%% What reaches the second hook is routed. So the first hook leaves a note, and the second one reports the message.
%%%
%%% Before 24.02 mod_privilege does not run the first hook. A message that it sends for a component reaches the second
%%% hook right after the component's own message, which carries it; so that one leaves a note too.

-spec user_send_packet({stanza() | drop, state()}) -> {stanza() | drop, state()}.
user_send_packet({Packet, #{jid := JID} = State} = Acc) when element(1, Packet) =:= message ->
    put(event_pusher_sent, {JID, is_map_key(sid, State)}),
    Acc;
user_send_packet(Acc) ->
    erase(event_pusher_sent),
    Acc.

-spec filter_packet(stanza() | drop) -> stanza() | drop.
filter_packet(Packet) when element(1, Packet) =:= message ->
    case get(event_pusher_sent) of
        undefined -> note_privileged(Packet);
        {privileged, Host} ->
            erase(event_pusher_sent),
            JID = xmpp:get_from(Packet),
            case jid:tolower(JID) of
                {_, Host, <<>>} -> sent(xmpp:get_type(Packet), Packet, JID, false);
                _ -> note_privileged(Packet)
            end;
        {JID, HasSession} ->
            case xmpp:get_from(Packet) of
                JID ->
                    erase(event_pusher_sent),
                    sent(xmpp:get_type(Packet), Packet, JID, HasSession);
                _ -> ok
            end
    end,
    Packet;
filter_packet(Packet) ->
    Packet.

%% A message to a virtual host that carries a message to send (XEP-0356). The host may still refuse it.
note_privileged(Packet) ->
    case jid:tolower(xmpp:get_to(Packet)) of
        {<<>>, Host, <<>>} ->
            Privileged = [El || El <- xmpp:get_els(Packet), is_privilege(xmpp:get_ns(El))],
            _ = Privileged =/= [] andalso put(event_pusher_sent, {privileged, Host}),
            ok;
        _ -> ok
    end.

is_privilege(Namespace) ->
    lists:member(Namespace, [<<"urn:xmpp:privilege:1">>, <<"urn:xmpp:privilege:2">>]).

%% A message that no session sent is reported with the user's bare JID. One without a user comes from the server itself.
sent(Type, Packet, JID, HasSession) when Type =:= chat; Type =:= groupchat ->
    case jid:tolower(JID) of
        {<<>>, _, _} -> ok;
        {User, Host, _} when not HasSession -> report(Type, Packet, Host, {JID, {User, Host, <<>>}});
        {_, Host, _} = Full -> report(Type, Packet, Host, {JID, Full})
    end;
sent(_, _, _, _) ->
    ok.

report(Type, Packet, Host, {JID, Sender}) ->
    case event_pusher_on_ejabberd_message:event(Type, Packet, JID, Sender) of
        none -> ok;
        Make -> event_pusher_inbox:message({?MODULE, Host}, Make)
    end.

%% The state still has the previous presence, if any: only the first one makes the session available.
-spec c2s_self_presence({stanza(), state()}) -> {stanza(), state()}.
c2s_self_presence({Presence, #{jid := JID} = State} = Acc) ->
    case xmpp:get_type(Presence) =:= available andalso not maps:is_key(pres_last, State) of
        true -> session(available, JID);
        false -> ok
    end,
    Acc;
c2s_self_presence(Acc) ->
    Acc.

%% Runs for unavailable presence (also a repeated one) and at each end of an available session.
-spec unset_presence(binary(), binary(), binary(), binary()) -> ok.
unset_presence(User, Server, Resource, _Status) ->
    session(unavailable, jid:make(User, Server, Resource)).

-spec c2s_session_resumed(state()) -> state().
c2s_session_resumed(#{jid := JID} = State) ->
    case maps:is_key(pres_last, State) of
        true -> session(resumed, JID);
        false -> ok
    end,
    State;
c2s_session_resumed(State) ->
    State.

-spec c2s_terminated(state(), term()) -> state().
c2s_terminated(#{mgmt_state := resumed, jid := JID} = State, _Reason) ->
    session(handed_over, JID),
    State;
c2s_terminated(State, _Reason) ->
    State.

%% The process is the session's key.
session(What, JID) ->
    {_, Host, _} = USR = jid:tolower(JID),
    event_pusher_inbox:put({?MODULE, Host}, {What, now_ms(), self(), USR}).

now_ms() ->
    os:system_time(millisecond).
