-- All measures of a row as one value: of what a row could hold most is zero or follows from the rest, and rows are read and written by the
-- million (core/src/packed.rs). llm.usage has each as a column.

CREATE TYPE llm.measures;
CREATE FUNCTION llm._measures_in(cstring) RETURNS llm.measures
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'llm_measures_in';
CREATE FUNCTION llm._measures_out(llm.measures) RETURNS cstring
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'llm_measures_out';
CREATE FUNCTION llm._measures_recv(internal) RETURNS llm.measures
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'llm_measures_recv';
CREATE FUNCTION llm._measures_send(llm.measures) RETURNS bytea
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'llm_measures_send';
CREATE TYPE llm.measures (
    INPUT = llm._measures_in, OUTPUT = llm._measures_out, RECEIVE = llm._measures_recv, SEND = llm._measures_send,
    INTERNALLENGTH = VARIABLE, STORAGE = main
);
COMMENT ON TYPE llm.measures IS
    'all measures of a row, written as a JSON object of those that are not zero: {"requests":3,"cost":0.25}; whole numbers, and amounts in USD with up to 30 decimals';
COMMENT ON FUNCTION llm._measures_in(cstring) IS 'input of llm.measures. Errors: 22P02, 22003';
COMMENT ON FUNCTION llm._measures_out(llm.measures) IS 'output of llm.measures';
COMMENT ON FUNCTION llm._measures_recv(internal) IS 'binary input of llm.measures: its text';
COMMENT ON FUNCTION llm._measures_send(llm.measures) IS 'binary output of llm.measures: its text';

CREATE FUNCTION llm._count(llm.measures, int) RETURNS bigint
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'llm_measures_count';
COMMENT ON FUNCTION llm._count(llm.measures, int) IS 'one of the whole numbers, from 0, in the order of the columns of llm.usage';

CREATE FUNCTION llm._amount(llm.measures, int) RETURNS numeric
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'llm_measures_amount';
COMMENT ON FUNCTION llm._amount(llm.measures, int) IS 'one of the amounts in USD, from 0, in the order of the columns of llm.usage';

-- Equality, hashing and order. A subscriber that applies changes of a table without a primary key
-- compares whole rows, and so do DISTINCT, EXCEPT and GROUP BY. Equal measures have equal bytes
-- (core/src/packed.rs), so PostgreSQL's functions for bytea do all of it. The order has no meaning:
-- it is there for what sorts before it compares.

CREATE FUNCTION llm._measures_eq(llm.measures, llm.measures) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'byteaeq';
CREATE FUNCTION llm._measures_ne(llm.measures, llm.measures) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'byteane';
CREATE FUNCTION llm._measures_lt(llm.measures, llm.measures) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'bytealt';
CREATE FUNCTION llm._measures_le(llm.measures, llm.measures) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'byteale';
CREATE FUNCTION llm._measures_gt(llm.measures, llm.measures) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'byteagt';
CREATE FUNCTION llm._measures_ge(llm.measures, llm.measures) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'byteage';
CREATE FUNCTION llm._measures_cmp(llm.measures, llm.measures) RETURNS int
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'byteacmp';
CREATE FUNCTION llm._measures_hash(llm.measures) RETURNS int
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'hashvarlena';
CREATE FUNCTION llm._measures_hash(llm.measures, bigint) RETURNS bigint
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'hashvarlenaextended';
COMMENT ON FUNCTION llm._measures_eq(llm.measures, llm.measures) IS 'implementation of = operator';
COMMENT ON FUNCTION llm._measures_ne(llm.measures, llm.measures) IS 'implementation of <> operator';
COMMENT ON FUNCTION llm._measures_lt(llm.measures, llm.measures) IS 'implementation of < operator';
COMMENT ON FUNCTION llm._measures_le(llm.measures, llm.measures) IS 'implementation of <= operator';
COMMENT ON FUNCTION llm._measures_gt(llm.measures, llm.measures) IS 'implementation of > operator';
COMMENT ON FUNCTION llm._measures_ge(llm.measures, llm.measures) IS 'implementation of >= operator';
COMMENT ON FUNCTION llm._measures_cmp(llm.measures, llm.measures) IS 'order of llm.measures, without a meaning';
COMMENT ON FUNCTION llm._measures_hash(llm.measures) IS 'hash of llm.measures';
COMMENT ON FUNCTION llm._measures_hash(llm.measures, bigint) IS 'hash of llm.measures, with a seed';

CREATE OPERATOR llm.= (
    FUNCTION = llm._measures_eq, LEFTARG = llm.measures, RIGHTARG = llm.measures,
    COMMUTATOR = OPERATOR(llm.=), NEGATOR = OPERATOR(llm.<>),
    RESTRICT = pg_catalog.eqsel, JOIN = pg_catalog.eqjoinsel, HASHES, MERGES
);
COMMENT ON OPERATOR llm.= (llm.measures, llm.measures) IS 'equals';
CREATE OPERATOR llm.<> (
    FUNCTION = llm._measures_ne, LEFTARG = llm.measures, RIGHTARG = llm.measures,
    COMMUTATOR = OPERATOR(llm.<>), NEGATOR = OPERATOR(llm.=),
    RESTRICT = pg_catalog.neqsel, JOIN = pg_catalog.neqjoinsel
);
COMMENT ON OPERATOR llm.<> (llm.measures, llm.measures) IS 'does not equal';
CREATE OPERATOR llm.< (
    FUNCTION = llm._measures_lt, LEFTARG = llm.measures, RIGHTARG = llm.measures,
    COMMUTATOR = OPERATOR(llm.>), NEGATOR = OPERATOR(llm.>=),
    RESTRICT = pg_catalog.scalarltsel, JOIN = pg_catalog.scalarltjoinsel
);
COMMENT ON OPERATOR llm.< (llm.measures, llm.measures) IS 'is before';
CREATE OPERATOR llm.<= (
    FUNCTION = llm._measures_le, LEFTARG = llm.measures, RIGHTARG = llm.measures,
    COMMUTATOR = OPERATOR(llm.>=), NEGATOR = OPERATOR(llm.>),
    RESTRICT = pg_catalog.scalarlesel, JOIN = pg_catalog.scalarlejoinsel
);
COMMENT ON OPERATOR llm.<= (llm.measures, llm.measures) IS 'is before or equals';
CREATE OPERATOR llm.> (
    FUNCTION = llm._measures_gt, LEFTARG = llm.measures, RIGHTARG = llm.measures,
    COMMUTATOR = OPERATOR(llm.<), NEGATOR = OPERATOR(llm.<=),
    RESTRICT = pg_catalog.scalargtsel, JOIN = pg_catalog.scalargtjoinsel
);
COMMENT ON OPERATOR llm.> (llm.measures, llm.measures) IS 'is after';
CREATE OPERATOR llm.>= (
    FUNCTION = llm._measures_ge, LEFTARG = llm.measures, RIGHTARG = llm.measures,
    COMMUTATOR = OPERATOR(llm.<=), NEGATOR = OPERATOR(llm.<),
    RESTRICT = pg_catalog.scalargesel, JOIN = pg_catalog.scalargejoinsel
);
COMMENT ON OPERATOR llm.>= (llm.measures, llm.measures) IS 'is after or equals';

CREATE OPERATOR CLASS llm.measures_ops DEFAULT FOR TYPE llm.measures USING btree AS
    OPERATOR 1 llm.<, OPERATOR 2 llm.<=, OPERATOR 3 llm.=, OPERATOR 4 llm.>=, OPERATOR 5 llm.>,
    FUNCTION 1 llm._measures_cmp(llm.measures, llm.measures);
COMMENT ON OPERATOR CLASS llm.measures_ops USING btree IS 'order of llm.measures, without a meaning';
COMMENT ON OPERATOR FAMILY llm.measures_ops USING btree IS 'order of llm.measures, without a meaning';

CREATE OPERATOR CLASS llm.measures_ops DEFAULT FOR TYPE llm.measures USING hash AS
    OPERATOR 1 llm.=,
    FUNCTION 1 llm._measures_hash(llm.measures),
    FUNCTION 2 llm._measures_hash(llm.measures, bigint);
COMMENT ON OPERATOR CLASS llm.measures_ops USING hash IS 'hashing of llm.measures';
COMMENT ON OPERATOR FAMILY llm.measures_ops USING hash IS 'hashing of llm.measures';
