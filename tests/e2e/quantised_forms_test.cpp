// Forms that quantisers write, and what every command says of them.

#include "tests/e2e/quantised_model.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;
using stored_in::forms;
using stored_in::in_form;
using stored_in::Tensors;

class QuantisedForms : public ::testing::Test {
 protected:
  [[nodiscard]] std::string at(const std::string& name) const {
    return (folder.path() / name).string();
  }
  TempFolder folder;
};

/// Element [i, j] of one expert of a stack [experts, in, out], as a matrix [out, in] of the columns
/// from `first` on, `step` apart.
EditedTensor linear_of(const EditedTensor& stack, std::int64_t expert, std::int64_t first,
                       std::int64_t step, std::int64_t count) {
  const bool is_bias = stack.shape.size() == 2;
  const std::int64_t in = is_bias ? 1 : stack.shape[1];
  const std::int64_t out = stack.shape.back();
  const auto size = static_cast<std::int64_t>(bytes(stack.dtype));
  EditedTensor made{stack.dtype, is_bias ? Shape{count} : Shape{count, in}, {}};
  for (std::int64_t row = 0; row < count; ++row) {
    for (std::int64_t column = 0; column < in; ++column) {
      const std::int64_t from = ((expert * in + column) * out + first + row * step) * size;
      made.bytes.insert(made.bytes.end(), stack.bytes.begin() + from,
                        stack.bytes.begin() + from + size);
    }
  }
  return made;
}

/// The model with a linear layer for each projection of each expert.
EditedCheckpoint with_linear_experts(EditedCheckpoint model, bool gates_alternate) {
  Tensors tensors;
  for (const auto& [name, stack] : model.tensors) {
    const std::size_t place = name.find(".experts.");
    if (place == std::string::npos) {
      tensors[name] = stack;
      continue;
    }
    const std::string parameter = name.ends_with("_bias") ? ".bias" : ".weight";
    const bool is_down = name.find("down_proj") != std::string::npos;
    const std::int64_t out = stack.shape.back();
    for (std::int64_t e = 0; e < stack.shape[0]; ++e) {
      const std::string module = name.substr(0, place) + ".experts." + std::to_string(e) + ".";
      if (is_down) {
        tensors[module + "down_proj" + parameter] = linear_of(stack, e, 0, 1, out);
        continue;
      }
      const std::int64_t step = gates_alternate ? 2 : 1;
      tensors[module + "gate_proj" + parameter] = linear_of(stack, e, 0, step, out / 2);
      tensors[module + "up_proj" + parameter] =
          linear_of(stack, e, gates_alternate ? 1 : out / 2, step, out / 2);
    }
  }
  model.tensors = std::move(tensors);
  return model;
}

/// llm-compressor writes one linear layer for each expert where the class has stacks: the ranks
/// hold the same.
TEST_F(QuantisedForms, ExpertsOneByOneAreTheStacksOfTheClass) {
  for (const auto& [family, alternate] :
       {std::pair<std::string, bool>{"llama4", false}, {"llama4_text", false}, {"gpt_oss", true}}) {
    SCOPED_TRACE(family);
    for (const char* old : {"stacks", "linear", "a", "b"}) {
      fs::remove_all(at(old));
    }
    ASSERT_EQ(run({"fixture", "make", family, "--out", at("stacks")}).code, 0);
    with_linear_experts(EditedCheckpoint::read(at("stacks")), alternate).write(at("linear"));
    const Words layout = {"--tp", "2", "--ep", "2", "--etp", "2", "--pp", "2"};
    for (const auto& [from, to] : {std::pair("stacks", "a"), std::pair("linear", "b")}) {
      Words line = {"convert", "--to", "megatron", "--model", at(from), "--out", at(to)};
      line.insert(line.end(), layout.begin(), layout.end());
      const Ended ended = run(line);
      ASSERT_EQ(ended.code, 0) << ended.all();
    }
    int compared = 0;
    for (const auto& entry : fs::directory_iterator(at("a"))) {
      if (entry.path().extension() == ".safetensors") {
        ++compared;
        EXPECT_EQ(read_tensors(entry.path()),
                  read_tensors(fs::path(at("b")) / entry.path().filename()))
            << entry.path().filename();
      }
    }
    EXPECT_GE(compared, 8);
    EXPECT_EQ(run({"convert", "--to", "hf", "--model", at("b"), "--out", at("back")}).code, 0);
    EXPECT_EQ(EditedCheckpoint::read(at("back")).tensors,
              EditedCheckpoint::read(at("linear")).tensors);
    fs::remove_all(at("back"));
  }
}

TEST_F(QuantisedForms, AreLaidOutAndTracedAsTheWeightsThatTheyStandFor) {
  for (const auto& form : forms()) {
    SCOPED_TRACE(form.name);
    in_form(EditedCheckpoint::golden("llama"), form).write(at("m"));
    const Ended layout = run({"layout", "--model", at("m"), "--tp", "2", "--dtype", "bfloat16"});
    EXPECT_EQ(layout.code, 0) << layout.all();
    EXPECT_NE(layout.all().find("dtype bfloat16"), std::string::npos) << layout.all();
    const Ended trace = run(
        {"trace", "model.layers.1.mlp.down_proj.weight", "3,5", "--model", at("m"), "--tp", "2"});
    EXPECT_EQ(trace.code, 0) << trace.all();
    EXPECT_NE(trace.all().find("decoder.layers.1.mlp.linear_fc2.weight[3, 5]"), std::string::npos)
        << trace.all();
  }
}

/// The type that was asked for is not held against config.json; that of a stored tensor is.
TEST_F(QuantisedForms, HaveTheTypeThatWasAskedForWithoutANote) {
  EditedCheckpoint model = in_form(EditedCheckpoint::golden("llama"), forms().front());
  model.config["dtype"] = "bfloat16";
  model.config.erase("torch_dtype");
  EditedTensor& norm = model.tensors.at("model.norm.weight");
  norm = {DType::F32, norm.shape, std::vector<std::byte>(norm.bytes.size() * 2)};
  model.write(at("m"));
  const Ended ended = run({"check", "--model", at("m"), "--dtype", "float32"});
  EXPECT_EQ(ended.code, 0) << ended.all();
  EXPECT_NE(ended.all().find("is F32, config.json says bfloat16"), std::string::npos)
      << ended.all();
  EXPECT_NE(ended.all().find("note     1 of "), std::string::npos) << ended.all();
}

/// What is about activations changes no weight.
TEST_F(QuantisedForms, TakeScalesAndZeroPointsOfActivations) {
  EditedCheckpoint model = in_form(EditedCheckpoint::golden("llama"), forms()[1]);
  for (const char* parameter : {"input_scale", "input_zero_point", "output_scale"}) {
    model.tensors[std::string("model.layers.0.mlp.up_proj.") + parameter] = {
        DType::F32, {1}, std::vector<std::byte>(4)};
  }
  model.write(at("m"));
  const Ended ended = run({"check", "--model", at("m"), "--dtype", "bfloat16"});
  EXPECT_EQ(ended.code, 0) << ended.all();
}

TEST_F(QuantisedForms, RowsThatDoNotFillTheirLastWordAreCalledThat) {
  EditedCheckpoint model = in_form(EditedCheckpoint::golden("llama"), forms()[3]);
  for (auto& [name, tensor] : model.tensors) {
    if (name.ends_with("weight_shape")) {
      std::int64_t columns = 0;
      std::memcpy(&columns, &tensor.bytes[8], sizeof columns);
      columns -= 4;
      std::memcpy(&tensor.bytes[8], &columns, sizeof columns);
    }
  }
  model.write(at("m"));
  const Ended ended = run({"check", "--model", at("m"), "--dtype", "bfloat16"});
  EXPECT_EQ(ended.code, 3) << ended.all();
  EXPECT_NE(ended.all().find("do not fill their last word"), std::string::npos) << ended.all();
}

/// The class decides where config.json has no model_type.
TEST_F(QuantisedForms, NeedNoModelTypeWhereTheClassIsKnown) {
  EditedCheckpoint model = in_form(EditedCheckpoint::golden("llama"), forms().front());
  model.config.erase("model_type");
  model.write(at("m"));
  const Ended ended = run({"check", "--model", at("m"), "--dtype", "bfloat16", "--tp", "2"});
  EXPECT_EQ(ended.code, 0) << ended.all();
}

/// A padded vocabulary is told where it is written.
TEST_F(QuantisedForms, ConvertTellsOfRowsThatItPads) {
  const Ended ended = run({"convert", "--to", "megatron", "--model", golden_hf("llama").string(),
                           "--out", at("x"), "--tp", "2"});
  EXPECT_EQ(ended.code, 0) << ended.all();
  EXPECT_NE(ended.all().find("131 vocabulary rows padded to a multiple of TP"), std::string::npos)
      << ended.all();
}

}  // namespace
}  // namespace bv::e2e
