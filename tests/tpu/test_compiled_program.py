import pytest

from keras_bert_tpu.tpu.compiled_program import Operation, by_layer, operations

HLO = """\
HloModule step, is_scheduled=true

%fused_computation (x: f32[8]) -> f32[8] {
  %inner.1 = f32[8]{0} add(%x, %x), backend_config={"estimated_cycles":"999"}
}

%body.2 (state: (s32[], f32[8])) -> (s32[], f32[8]) {
  %fusion.3 = f32[8]{0} fusion(%x), kind=kLoop, calls=%fused_computation, \
metadata={op_name="step/encoder_1/layer_0_1/query_1/MatMul"}, \
backend_config={"estimated_cycles":"10"}
}

%cond.4 (state: (s32[], f32[8])) -> pred[] {
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main.5 (a: f32[8]) -> f32[8] {
  %copy.9 = f32[8]{0} copy(%a), backend_config={"flag_configs":[]}
  %while.6 = (s32[], f32[8]) while(%t), condition=%cond.4, body=%body.2, \
backend_config={"known_trip_count":{"n":"4"}}
  %fusion.7 = f32[8]{0} fusion(%a), metadata={op_name="step/encoder_1/layer_11_1/query_1/MatMul"}, \
backend_config={"estimated_cycles":"100"}
  ROOT %convert.8 = f32[8]{0} convert(%b), backend_config={"estimated_cycles":"7"}
}
"""


def test_operations_of_a_loop_count_as_often_as_it_runs():
    assert operations(HLO) == [
        Operation("fusion", "step/encoder/layer_0/query/MatMul", 40, 4),
        Operation("fusion", "step/encoder/layer_11/query/MatMul", 100, 1),
        Operation("convert", "", 7, 1),
    ]


def test_loop_that_counts_to_a_constant_says_so_in_its_condition():
    annotation = ', \\\nbackend_config={"known_trip_count":{"n":"4"}}'.replace("\\\n", "")
    counted = HLO.replace(annotation, "").replace(
        "  ROOT %less = pred[] compare(%i, %n), direction=LT",
        "  %n = s32[]{:T(128)} constant(4)\n  %i = s32[]{:T(128)} get-tuple-element(%s), index=0\n"
        "  ROOT %less = pred[]{:T(512)} compare(%i, %n), direction=LT",
    )
    assert "known_trip_count" not in counted and counted.count("constant(4)") == 1
    assert operations(counted) == operations(HLO)
    with pytest.raises(ValueError, match="how often its loop body.2 runs"):
        operations(counted.replace("direction=LT", "direction=NE"))


def test_layers_are_added_up_and_the_costliest_comes_first():
    assert by_layer(operations(HLO)) == [
        Operation("fusion", "step/encoder/layer_*/query/MatMul", 140, 5),
        Operation("convert", "", 7, 1),
    ]
