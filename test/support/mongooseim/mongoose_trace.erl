%%% Plays hook calls recorded from a running MongooseIM: each in its recorded process, with the session's recorded
%%% state.
-module(mongoose_trace).
-export([begin_trace/0, call/2, casts/2, register/3, prepare/2, down/2, close/1, place/4, vanish/1]).

%% The recording's P1, P2 …, as processes here.
begin_trace() ->
    case ets:whereis(standin_labels) of
        undefined ->
            Owner = spawn(fun() -> ets:new(standin_labels, [named_table, public]), receive stop -> ok end end),
            ready(Owner);
        _ -> ets:delete_all_objects(standin_labels)
    end,
    ok.

ready(Owner) ->
    case ets:whereis(standin_labels) of
        undefined -> timer:sleep(1), ready(Owner);
        _ -> ok
    end.

%% A hook. `Call` has: name, by (in a process that is not a session), jid, available, origin_sid, reason, status,
%% stanza, up_to.
call(Label, #{name := Name} = Call) ->
    case Call of
        #{by := true} -> in_another_process(fun() -> gen_hook:run_fold(Name, host_type(Call), acc(none, Call), #{}) end);
        _ ->
            Name =:= user_terminate andalso ets:insert(standin_labels, {{states, Label}, mongoose_c2s:state_mod(pid(Label))}),
            in_session(Label, fun(Data) -> run(Name, with(Data, Call), Call) end)
    end.

run(Name, Data, Call) ->
    Data1 = mongoose_c2s:hook(Name, Data, acc(Data, Call), params(Name, Data, Call), maps:get(up_to, Call, 1000)),
    {ok, case Name of
             unset_presence -> mod_presence:set_priority(Data1, undefined);
             _ -> Data1
         end}.

params(user_available, Data, _) -> #{jid => mongoose_c2s:get_jid(Data)};
params(unset_presence, Data, Call) -> #{jid => mongoose_c2s:get_jid(Data), status => maps:get(status, Call, <<>>)};
params(_, Data, Call) ->
    #{c2s_data => Data, c2s_state => session_established, event_type => terminate,
      reason => maps:get(reason, Call, undefined)}.

%% Sets the session's recorded state.
with(Data, Call) ->
    Data1 = case Call of
                #{jid := Jid} -> mongoose_c2s:set_jid(Data, jid:from_binary(Jid));
                _ -> Data
            end,
    case Call of
        #{available := Priority} -> mod_presence:set_priority(Data1, Priority);
        _ -> Data1
    end.

acc(Data, Call) ->
    Acc = mongoose_acc:new(host_type(Call), <<"localhost">>),
    Acc1 = case Call of
               #{origin_sid := true} -> mongoose_acc:from_session(mongoose_c2s:get_sid(Data), Acc);
               _ -> Acc
           end,
    case Call of
        #{stanza := {From, To, Element}} ->
            mongoose_acc:with_stanza(jid:from_binary(From), jid:from_binary(To), attrs(Element), Acc1);
        _ -> Acc1
    end.

%% Attributes are a list until 6.3, a map since.
attrs({xmlel, Name, Attrs, Children}) ->
    Attrs1 = case persistent_term:get({gen_hook, old_names}, false) of
                 true -> Attrs;
                 false -> maps:from_list(Attrs)
             end,
    {xmlel, Name, Attrs1, [attrs(Child) || Child <- Children]};
attrs(Text) -> Text.

host_type(_) -> <<"localhost">>.

%% sm_register_connection; a resumed session gets the states of its predecessor.
register(Label, From, #{jid := Jid, info := Info} = Call) ->
    case Call of
        #{by := true} ->
            in_another_process(fun() ->
                gen_hook:run_fold(sm_register_connection, host_type(Call), ok,
                                  #{sid => {erlang:system_time(microsecond), self()}, jid => jid:from_binary(Jid), info => Info})
            end);
        _ ->
            States = states(From),
            in_session(Label, fun(Data) ->
                Data1 = mongoose_c2s:merge_mod_state(with(Data, Call), States),
                Sid = mongoose_c2s:get_sid(Data1),
                ejabberd_sm:open(Sid, jid:to_lower(jid:from_binary(Jid)), Info),
                gen_hook:run_fold(sm_register_connection, host_type(Call), ok,
                                  #{sid => Sid, jid => jid:from_binary(Jid), info => Info}),
                {ok, Data1}
            end)
    end.

prepare(Label, Call) ->
    in_session(Label, fun(Data) -> {ok, with(Data, Call)} end).

%% A session that ended while no module was loaded to see it.
vanish(Label) ->
    close(Label),
    down(Label, {shutdown, stream_end}).

%% A resumed session passes its state on before its process ends.
states(none) ->
    #{};
states(Label) ->
    case ets:lookup(standin_labels, {states, Label}) of
        [{_, States}] -> States;
        [] -> mongoose_c2s:state_mod(pid(Label))
    end.

%% Handles messages of async_with_state; returns their number.
casts(Label, Call) ->
    ok = in_session(Label, fun(Data) -> {ok, with(Data, Call)} end),
    mongoose_c2s:run_casts(pid(Label)).

down(Label, Reason) ->
    [mongoose_c2s:stop(Pid, Reason) || {_, Pid} <- ets:take(standin_labels, Label)],
    ok.

%% sm_remove_connection.
close(Label) ->
    in_session(Label, fun(Data) -> ejabberd_sm:close(mongoose_c2s:get_sid(Data)), {ok, Data} end).

%% A session that began while no module was loaded to see it.
place(Label, From, Jid, Info) ->
    case ets:member(standin_labels, Label) of
        true -> ok;
        false ->
            States = states(From),
            in_session(Label, fun(Data) ->
                Data1 = mongoose_c2s:merge_mod_state(mongoose_c2s:set_jid(Data, jid:from_binary(Jid)), States),
                ejabberd_sm:open(mongoose_c2s:get_sid(Data1), jid:to_lower(jid:from_binary(Jid)), Info),
                {ok, Data1}
            end)
    end.

in_session(Label, Fun) ->
    mongoose_c2s:run(pid(Label), Fun).

pid(Label) ->
    case ets:lookup(standin_labels, Label) of
        [{_, Pid}] -> Pid;
        [] ->
            Pid = mongoose_c2s:start(<<"localhost">>, #{}, when_told),
            ets:insert(standin_labels, {Label, Pid}),
            Pid
    end.

in_another_process(Fun) ->
    {Pid, Ref} = spawn_monitor(Fun),
    receive {'DOWN', Ref, process, Pid, normal} -> ok end.
