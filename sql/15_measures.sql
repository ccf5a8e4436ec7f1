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
