%%% The queue's files: a folder of segments. Each is a series of groups <<Size:32, Crc:32, Payload:Size/binary>>; the
%%% payload is a list of operations in Erlang's external format.
%%%
%%% Invariants:
%%%  - A group is written and synced before the next one begins. A failed write leaves nothing in the file.
%%%  - A segment begins with `head`: everything needed from earlier segments, including the ledger.
%%%  - Unreadable data only loses itself: reading continues at the next whole group, at any offset.
%%%
%%%   {head, 2, Next, Acked, {Unseen, Begun}, Stretches, Ledger}   an event_pusher_committed; Stretches say under which
%%%                                       epoch and number a position is sent
%%%   {head, 1, Source, Epoch, Next, Acked, Ledger}   version 0.1.0: one epoch, numbers are positions
%%%   {event, Position, Json}             a message
%%%   {events, {First, Sizes, Json}}      version 0.1.0: messages in a row, their JSON with commas between and how long each is
%%%   {up, Ref, USR, Key, Position, Json} a session; position 0 and JSON none where there is no event to send
%%%   {move, Ref, Key}                    its process is another one now
%%%   {down, Ref, Position, Json}         its end; likewise
%%%   {ack, Position}                     the daemon has all up to here
%%%   {next, Position}                    the positions go on here
%%%   {stretches, Stretches}              events are sent under other numbers from now on
%%%   {unseen, Count}                     a new epoch has begun, and so many lost numbers are unseen
-module(event_pusher_segment).

-export([numbers/1, path/2, damaged_path/2, group/1, write/3, read/2, fold/3, events/1]).
-export_type([op/0, event/0, position/0, ledger/0]).

-type position() :: pos_integer().
-type event() :: {position(), Json :: binary()}.
-type ledger() :: #{event_pusher_sessions:ref() =>
                        {event_pusher_sessions:usr(), event_pusher_sessions:key(), non_neg_integer()}}.
-type op() :: {head, 2, position(), non_neg_integer(), {non_neg_integer(), boolean()},
               event_pusher_stretches:stretches(), list()}
            | {head, 1, binary(), binary(), position(), non_neg_integer(), list()}
            | {events, {First :: position(), Sizes :: binary(), Json :: binary()}}
            | {event, position(), binary()}
            | {up, event_pusher_sessions:ref(), event_pusher_sessions:usr(), event_pusher_sessions:key(),
               non_neg_integer(), binary() | none}
            | {move, event_pusher_sessions:ref(), event_pusher_sessions:key()}
            | {down, event_pusher_sessions:ref(), non_neg_integer(), binary() | none}
            | {ack, non_neg_integer()}
            | {next, position()}
            | {stretches, event_pusher_stretches:stretches()}
            | {unseen, non_neg_integer()}.

%% The version of the file format, in the head.
-define(VERSION, 2).
%% Only a head with a long ledger is larger: an event has at most 3 MiB, and groups are closed well before that.
-define(MAX_BYTES, 16777216).
%% How much to read at once when searching for the next whole group.
-define(SEARCH_BYTES, 1048576).

%% The segments in a folder, in order, and the names of other files there.
-spec numbers(file:filename_all()) -> {ok, {[pos_integer()], [file:filename_all()]}} | {error, term()}.
numbers(Dir) ->
    case file:list_dir_all(Dir) of
        {ok, Names} ->
            {Ours, Others} = lists:partition(fun(Name) -> is_ours(Dir, Name) end, Names),
            Numbers = [list_to_integer(filename:basename(Name, ".seg")) || Name <- Ours],
            {ok, {lists:sort(Numbers), lists:sort([Name || Name <- Others, not is_aside(Name)])}};
        {error, Reason} -> {error, Reason}
    end.

is_ours(Dir, Name) when is_list(Name) ->
    re:run(Name, "^[0-9]{10}\\.seg$", [{capture, none}]) =:= match andalso filelib:is_regular(filename:join(Dir, Name));
is_ours(_, _) ->
    false.

%% A delivered damaged segment, or the file of event_pusher_status.
is_aside(Name) when is_list(Name) -> re:run(Name, "^([0-9]{10}\\.damaged|status|status\\.new)$", [{capture, none}]) =:= match;
is_aside(_) -> false.

-spec path(file:filename_all(), pos_integer()) -> file:filename_all().
path(Dir, Number) ->
    filename:join(Dir, lists:flatten(io_lib:format("~10..0B.seg", [Number]))).

%% Where a damaged segment is kept.
-spec damaged_path(file:filename_all(), pos_integer()) -> file:filename_all().
damaged_path(Dir, Number) ->
    filename:join(Dir, lists:flatten(io_lib:format("~10..0B.damaged", [Number]))).

-spec group([op()]) -> iodata().
group(Ops) ->
    Payload = term_to_binary(Ops),
    [<<(byte_size(Payload)):32, (erlang:crc32(Payload)):32>>, Payload].

%% The events of a group, in the order of their positions.
-spec events([op()]) -> [event()].
events(Ops) ->
    lists:flatmap(fun event/1, Ops).

event({event, Position, Json}) -> [{Position, Json}];
event({up, _, _, _, Position, Json}) when Position > 0 -> [{Position, Json}];
event({down, _, Position, Json}) when Position > 0 -> [{Position, Json}];
event({events, {First, Sizes, Json}}) -> split(First, Sizes, <<Json/binary, $,>>);
event(_) -> [].

split(_, <<>>, <<>>) ->
    [];
split(Position, <<Size:32, Sizes/binary>>, Jsons) ->
    <<Json:Size/binary, $,, Rest/binary>> = Jsons,
    [{Position, Json} | split(Position + 1, Sizes, Rest)].

%% After a failure nothing may remain: the next write goes to the same offset.
-spec write(file:io_device(), non_neg_integer(), iodata()) -> ok | {error, file:posix() | badarg | terminated}.
write(Fd, Offset, Data) ->
    case file:pwrite(Fd, Offset, Data) of
        ok ->
            case file:datasync(Fd) of
                ok -> ok;
                {error, Reason} -> cut(Fd, Offset, Reason)
            end;
        {error, Reason} -> cut(Fd, Offset, Reason)
    end.

cut(Fd, Offset, Reason) ->
    _ = file:position(Fd, Offset),
    _ = file:truncate(Fd),
    {error, Reason}.

%% Reads the group at an offset, and returns the offset of the next one. `torn`: no whole group follows, and the data
%% looks like an incomplete write. `damaged`: anything else, up to the next whole group or the end.
-spec read(file:io_device(), non_neg_integer()) ->
          {ok, [op()], non_neg_integer()} | {damaged | torn, non_neg_integer()} | eof | {error, term()}.
read(Fd, Offset) ->
    case group_at(Fd, Offset) of
        {bad, Size} ->
            case search(Fd, Offset + 1) of
                {ok, Next} -> {damaged, Next};
                {eof, End} ->
                    case is_torn(Fd, Offset, Size, End) of
                        true -> {torn, End};
                        false -> {damaged, End}
                    end;
                {error, Reason} -> {error, Reason}
            end;
        Other -> Other
    end.

group_at(Fd, Offset) ->
    case file:pread(Fd, Offset, 8) of
        {ok, <<Size:32, Crc:32>>} when Size > 0 ->
            case is_readable(Fd, Offset + 8, Size) of
                true -> payload_at(Fd, Offset, Size, Crc);
                false -> {bad, Size}
            end;
        {ok, _} -> {bad, 0};
        eof -> eof;
        {error, Reason} -> {error, Reason}
    end.

%% A damaged size must not cost more memory than the file has bytes.
is_readable(_, _, Size) when Size =< ?MAX_BYTES ->
    true;
is_readable(Fd, Offset, Size) ->
    case file:position(Fd, eof) of
        {ok, End} -> Offset + Size =< End;
        {error, _} -> false
    end.

payload_at(Fd, Offset, Size, Crc) ->
    case file:pread(Fd, Offset + 8, Size) of
        {ok, <<Payload:Size/binary>>} ->
            IsWhole = erlang:crc32(Payload) =:= Crc,
            case IsWhole andalso ops(Payload) of
                [_ | _] = Ops -> {ok, Ops, Offset + 8 + Size};
                %% A complete group of an unknown format.
                _ when IsWhole -> {bad, 0};
                _ -> {bad, Size}
            end;
        {error, Reason} -> {error, Reason};
        _ -> {bad, Size}
    end.

%% Returns nothing if the payload has an unknown format.
ops(Payload) ->
    try binary_to_term(Payload) of
        Ops when is_list(Ops) ->
            case lists:all(fun is_op/1, Ops) of
                true -> Ops;
                false -> false
            end;
        _ -> false
    catch
        error:badarg -> false
    end.

is_op({head, 2, Next, Acked, {Unseen, Begun}, Stretches, Ledger}) ->
    is_integer(Next) andalso is_integer(Acked) andalso is_integer(Unseen) andalso is_boolean(Begun)
        andalso is_list(Stretches) andalso is_list(Ledger);
is_op({head, 1, Source, Epoch, Next, Acked, Ledger}) ->
    is_binary(Source) andalso is_binary(Epoch) andalso is_integer(Next) andalso is_integer(Acked)
        andalso is_list(Ledger);
is_op({events, {First, Sizes, Json}}) ->
    is_integer(First) andalso is_binary(Sizes) andalso byte_size(Sizes) >= 4 andalso is_binary(Json)
        andalso byte_size(Json) =:= lists:sum([Size + 1 || <<Size:32>> <= Sizes]) - 1;
is_op({event, Position, Json}) -> is_integer(Position) andalso is_binary(Json);
is_op({up, _, {_, _, _}, _, Position, Json}) -> is_event(Position, Json);
is_op({move, _, _}) -> true;
is_op({down, _, Position, Json}) -> is_event(Position, Json);
is_op({ack, Position}) -> is_integer(Position);
is_op({next, Position}) -> is_integer(Position);
is_op({stretches, Stretches}) -> is_list(Stretches);
is_op({unseen, Count}) -> is_integer(Count);
is_op(_) -> false.

is_event(0, none) -> true;
is_event(Position, Json) -> is_integer(Position) andalso is_binary(Json).

%% Finds the next whole group. Its payload is a list, so its ninth and tenth byte are known.
search(Fd, From) ->
    case file:pread(Fd, From, ?SEARCH_BYTES) of
        {ok, Bytes} ->
            Found = [From + At - 8 || {At, _} <- binary:matches(Bytes, <<131, 108>>), At >= 8],
            case first_whole(Fd, Found) of
                none when byte_size(Bytes) < ?SEARCH_BYTES -> {eof, From + byte_size(Bytes)};
                %% Rereads ten bytes: they may be the start of a group.
                none -> search(Fd, From + ?SEARCH_BYTES - 10);
                Result -> Result
            end;
        eof -> {eof, From};
        {error, Reason} -> {error, Reason}
    end.

first_whole(_, []) ->
    none;
first_whole(Fd, [Offset | Offsets]) ->
    case group_at(Fd, Offset) of
        {ok, _, _} -> {ok, Offset};
        {error, Reason} -> {error, Reason};
        _ -> first_whole(Fd, Offsets)
    end.

%% Whether the data is an incomplete write: it begins like a group and reaches the end of the file or beyond, or has
%% only the zeros that a file system leaves after a power failure.
is_torn(Fd, Offset, Size, End) ->
    case file:pread(Fd, Offset, min(End - Offset, ?MAX_BYTES)) of
        {ok, <<_:8/binary, 131, 108, _/binary>>} -> Offset + 8 + Size >= End;
        {ok, <<_:8/binary, 131>>} -> true;
        {ok, Rest} -> byte_size(Rest) =< 8 orelse Rest =:= <<0:(byte_size(Rest) * 8)>>;
        _ -> false
    end.

%% Folds over the groups of a segment, and over each region that can't be read. Refuses a segment of a later version.
-spec fold(file:filename_all(),
           fun(({group, [op()]} | {damaged | torn, non_neg_integer(), non_neg_integer()}, Acc) -> Acc), Acc) ->
          {ok, Acc} | {error, {later, pos_integer(), pos_integer()} | term()}.
fold(Path, Fun, Acc) ->
    case file:open(Path, [read, raw, binary]) of
        {ok, Fd} ->
            try
                case version(Fd) of
                    Version when is_integer(Version), Version > ?VERSION -> {error, {later, Version, ?VERSION}};
                    _ -> fold(Fd, 0, Fun, Acc)
                end
            after file:close(Fd)
            end;
        {error, Reason} -> {error, Reason}
    end.

%% The version in the segment's head; `unknown` if the beginning is damaged.
version(Fd) ->
    case file:pread(Fd, 0, 8) of
        {ok, <<Size:32, Crc:32>>} when Size > 0 ->
            case is_readable(Fd, 8, Size) andalso file:pread(Fd, 8, Size) of
                {ok, Payload} -> version_of(erlang:crc32(Payload) =:= Crc, Payload);
                _ -> unknown
            end;
        _ -> unknown
    end.

version_of(false, _) ->
    unknown;
version_of(true, Payload) ->
    try binary_to_term(Payload) of
        [Head | _] when element(1, Head) =:= head -> element(2, Head);
        _ -> unknown
    catch
        error:badarg -> unknown
    end.

fold(Fd, Offset, Fun, Acc) ->
    case read(Fd, Offset) of
        {ok, Ops, Next} -> fold(Fd, Next, Fun, Fun({group, Ops}, Acc));
        {Kind, Next} when Kind =:= damaged; Kind =:= torn -> fold(Fd, Next, Fun, Fun({Kind, Offset, Next}, Acc));
        eof -> {ok, Acc};
        {error, Reason} -> {error, Reason}
    end.
