%%% Events in a row, as one binary: on disk, in memory and in the batch.
%%%
%%% A piece has the position of its first event, how many bytes of JSON each event has, and their JSON with commas
%%% between. Of thousands of small binaries every garbage collection would copy each one's reference until the daemon
%%% has it.
-module(event_pusher_pieces).

-export([one/2, gather/2, of_ops/1, last/1, count/1, bytes/1, split/2, beyond/2, fitting/3]).
-export_type([piece/0, position/0]).

-type position() :: pos_integer().
-type piece() :: {First :: position(), Sizes :: binary(), Json :: binary()}.

%% The virtual machine takes binaries of half a megabyte and more from the operating system, one by one, which is dear.
-define(PIECE_BYTES, 131072).

-spec one(position(), binary()) -> piece().
one(Position, Json) ->
    {Position, <<(byte_size(Json)):32>>, Json}.

%% The messages at the head of a list of items as one piece, and the items after it.
-spec gather([binary() | Item], position()) -> {piece(), [binary() | Item]}.
gather(Items, First) ->
    gather(Items, First, <<>>, [], 0).

gather([Json | Items], First, Sizes, Jsons, Bytes) when is_binary(Json), Bytes < ?PIECE_BYTES ->
    Size = byte_size(Json),
    gather(Items, First, <<Sizes/binary, Size:32>>, [Json | Jsons], Bytes + Size + 1);
gather(Items, First, Sizes, Jsons, _) ->
    {{First, Sizes, iolist_to_binary(lists:join($,, lists:reverse(Jsons)))}, Items}.

%% The events of a group's operations, in the order of their positions.
-spec of_ops([event_pusher_segment:op()]) -> [piece()].
of_ops(Ops) ->
    lists:flatmap(fun of_op/1, Ops).

of_op({events, Piece}) -> [Piece];
of_op({event, Position, Json}) -> [one(Position, Json)];
of_op({up, _, _, _, Position, Json}) when Position > 0 -> [one(Position, Json)];
of_op({down, _, Position, Json}) when Position > 0 -> [one(Position, Json)];
of_op(_) -> [].

-spec last(piece()) -> position().
last({First, Sizes, _}) ->
    First + byte_size(Sizes) div 4 - 1.

%% How many events.
-spec count([piece()]) -> non_neg_integer().
count(Pieces) ->
    lists:sum([byte_size(Sizes) div 4 || {_, Sizes, _} <- Pieces]).

-spec bytes([piece()]) -> non_neg_integer().
bytes(Pieces) ->
    lists:sum([byte_size(Json) || {_, _, Json} <- Pieces]).

%% The first N events of a piece, and the others; neither are none.
-spec split(pos_integer(), piece()) -> {piece(), piece()}.
split(N, {First, Sizes, Json}) ->
    <<Left:N/binary-unit:32, Right/binary>> = Sizes,
    Bytes = lists:sum([Size || <<Size:32>> <= Left]) + N - 1,
    <<LeftJson:Bytes/binary, $,, RightJson/binary>> = Json,
    {{First, Left, LeftJson}, {First + N, Right, RightJson}}.

%% The events after this position.
-spec beyond(non_neg_integer(), [piece()]) -> [piece()].
beyond(Position, Pieces) ->
    [case Piece of
         {First, _, _} when First > Position -> Piece;
         {First, _, _} -> element(2, split(Position - First + 1, Piece))
     end || Piece <- Pieces, last(Piece) > Position].

%% How many of a piece's first events are at most `Limit` and fit into so many bytes.
-spec fitting(piece(), non_neg_integer(), integer()) -> non_neg_integer().
fitting({_, Sizes, _}, Limit, Room) ->
    fitting(Sizes, Limit, Room, 0).

fitting(<<Size:32, Sizes/binary>>, Limit, Room, N) when N < Limit, Room > Size ->
    fitting(Sizes, Limit, Room - Size - 1, N + 1);
fitting(_, _, _, N) ->
    N.
