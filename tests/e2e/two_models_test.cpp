// What is said of an HF model that is compared: copies that it stores are what they repeat, --dtype
// is what both sides are held to, and a storage form is no other model.

#include <algorithm>

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

/// Every command that says of a model's elements that they are right.
class StoredCopy : public testing::Test {
 protected:
  [[nodiscard]] std::string at(const std::string& name) const { return folder_ / name; }

  /// The model with the copy, right and with its last bit of `copy` turned over; shards of the
  /// right one.
  void write(EditedCheckpoint model, const std::string& copy) {
    copy_ = copy;
    model.write(at("good"));
    model.tensors.at(copy).bytes.back() ^= std::byte{0x80};
    model.write(at("bad"));
    for (const char* to : {"megatron", "torch_dist"}) {
      const Ended there = run({"convert", "--to", to, "--model", at("good"), "--out", at(to)});
      ASSERT_EQ(there.code, 0) << there.all();
    }
  }

  void expect(const Words& line, bool right) const {
    const Ended ended = run(line);
    EXPECT_EQ(ended.code, right ? 0 : 1) << ended.all();
    EXPECT_EQ(ended.out.find("BV1008") != std::string::npos, !right) << ended.all();
    EXPECT_EQ(ended.flat().find(copy_ + " is stored beside") != std::string::npos, !right)
        << ended.all();
  }

  void expect_judged() const {
    for (const char* model : {"good", "bad"}) {
      const bool right = std::string_view(model) == "good";
      for (const char* to : {"megatron", "torch_dist"}) {
        expect({"check", "--model", at(model), "--megatron", at(to)}, right);
        expect({"diff", at(model), at(to)}, right);
      }
      expect({"diff", at(model), at(model)}, right);
      expect({"check", "--model", at(model), "--against", at(model)}, right);
      expect({"check", "--model", at(model), "--against", at(model), "--dtype", "float32"}, right);
    }
    expect({"check", "--model", at("good"), "--against", at("bad")}, false);
    expect({"check", "--model", at("bad"), "--against", at("good")}, false);
    const Ended there =
        run({"convert", "--to", "megatron", "--model", at("bad"), "--out", at("none")});
    EXPECT_EQ(there.code, 1) << there.all();
    EXPECT_FALSE(std::filesystem::exists(at("none")));
  }

 private:
  TempFolder folder_;
  std::string copy_;
};

TEST_F(StoredCopy, OfATiedEmbeddingIsJudgedByEveryCommand) {
  EditedCheckpoint model = EditedCheckpoint::golden("llama_tied_kv2");
  model.tensors["lm_head.weight"] = model.tensors.at("model.embed_tokens.weight");
  write(model, "lm_head.weight");
  expect_judged();
}

TEST_F(StoredCopy, OfAnMtpLayerIsJudgedByEveryCommand) {
  const TempFolder made;
  const Ended fixture = run({"fixture", "make", "deepseek_v3", "--set",
                             "num_nextn_predict_layers=1", "--out", made / "m"});
  ASSERT_EQ(fixture.code, 0) << fixture.all();
  EditedCheckpoint model = EditedCheckpoint::read(made / "m");
  const std::string layer =
      "model.layers." + std::to_string(model.config.at("num_hidden_layers").get<int>());
  model.tensors[layer + ".shared_head.head.weight"] = model.tensors.at("lm_head.weight");
  model.tensors[layer + ".embed_tokens.weight"] = model.tensors.at("model.embed_tokens.weight");
  write(model, layer + ".shared_head.head.weight");
  expect_judged();
}

/// The bytes of another shape or type are not those of the original, whatever they are.
TEST_F(StoredCopy, OfAnotherTypeIsNoCopy) {
  const TempFolder folder;
  EditedCheckpoint model = EditedCheckpoint::golden("llama_tied_kv2");
  model.write(folder / "m");
  const Ended there =
      run({"convert", "--to", "megatron", "--model", folder / "m", "--out", folder / "s"});
  ASSERT_EQ(there.code, 0) << there.all();
  EditedTensor copy = model.tensors.at("model.embed_tokens.weight");
  std::swap(copy.shape[0], copy.shape[1]);
  model.tensors["lm_head.weight"] = copy;
  model.write(folder / "m");
  const Ended ended = run({"check", "--model", folder / "m", "--megatron", folder / "s"});
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_NE(ended.out.find("BV1008"), std::string::npos) << ended.all();
}

/// A tensor that --exclude takes is no part of either model.
TEST_F(StoredCopy, ThatIsLeftOutIsNotJudged) {
  EditedCheckpoint model = EditedCheckpoint::golden("llama_tied_kv2");
  model.tensors["lm_head.weight"] = model.tensors.at("model.embed_tokens.weight");
  write(model, "lm_head.weight");
  expect({"diff", at("bad"), at("bad"), "--exclude", "lm_head.weight"}, true);
}

/// BF16 as F32 with every value kept.
EditedTensor in_float32(const EditedTensor& tensor) {
  EditedTensor out{DType::F32, tensor.shape, {}};
  for (std::size_t i = 0; i < tensor.bytes.size(); i += 2) {
    out.bytes.insert(out.bytes.end(),
                     {std::byte{0}, std::byte{0}, tensor.bytes[i], tensor.bytes[i + 1]});
  }
  return out;
}

/// A BF16 model, and itself in F32.
struct Widths {
  EditedCheckpoint narrow, wide;
};
Widths widths() {
  const TempFolder made;
  EXPECT_EQ(run({"fixture", "make", "llama", "--out", made / "m"}).code, 0);
  Widths out{EditedCheckpoint::read(made / "m"), {}};
  out.wide = out.narrow;
  for (auto& [name, tensor] : out.wide.tensors) {
    EXPECT_EQ(tensor.dtype, DType::BF16) << name;
    tensor = in_float32(tensor);
  }
  return out;
}

TEST(AgainstWithDtype, HoldsOneSideAgainstWhatTheOtherIsCastTo) {
  const TempFolder folder;
  Widths made = widths();
  made.narrow.write(folder / "n");
  made.wide.write(folder / "w");
  const Words check = {"check", "--model", folder / "n", "--against", folder / "w"};
  const Words diff = {"diff", folder / "n", folder / "w"};
  for (const Words& line : {check, diff}) {
    EXPECT_EQ(run(line).code, 1) << "without --dtype every type counts";
    const Ended same = run(line + Words{"--dtype", "float32"});
    EXPECT_EQ(same.code, 0) << same.all();
    EXPECT_EQ(run(line + Words{"--dtype", "float16"}).code, 1) << "B is no F16";
  }
  // One bit below BF16 is another value.
  const std::string changed = "model.layers.1.mlp.up_proj.weight";
  made.wide.tensors.at(changed).bytes[0] ^= std::byte{1};
  made.wide.write(folder / "w");
  for (const Words& line : {check, diff}) {
    const Ended other = run(line + Words{"--dtype", "float32"});
    EXPECT_EQ(other.code, 1) << other.all();
    EXPECT_NE(other.out.find(changed), std::string::npos) << other.out;
  }
}

/// FP8 with one scale a row, and what it stands for; norms stay in F32 on both sides.
TEST(AgainstWithDtype, HoldsAQuantisedModelAgainstItsDequantisedCopy) {
  const TempFolder folder;
  EditedCheckpoint plain = widths().narrow;
  EditedCheckpoint codes = plain;
  codes.config["quantization_config"] = {{"quant_method", "fbgemm_fp8"}};
  for (auto& [name, tensor] : plain.tensors) {
    if (name.find("_proj.weight") == std::string::npos) {
      if (name == "model.norm.weight") {
        codes.tensors.at(name) = tensor = in_float32(tensor);
      }
      continue;
    }
    const std::int64_t rows = tensor.shape[0];
    const auto count = static_cast<std::size_t>(rows * tensor.shape[1]);
    codes.tensors[name] = {DType::F8E4M3, tensor.shape,
                           std::vector<std::byte>(count, std::byte{0x38})};  // 1.0
    EditedTensor scale{DType::BF16, {rows, 1}, {}};
    tensor.bytes.clear();
    for (std::int64_t row = 0; row < rows; ++row) {  // 2.0 and 4.0 in turns
      const std::byte high = row % 2 == 0 ? std::byte{0x00} : std::byte{0x80};
      scale.bytes.insert(scale.bytes.end(), {high, std::byte{0x40}});
      for (std::int64_t i = 0; i < tensor.shape[1]; ++i) {
        tensor.bytes.insert(tensor.bytes.end(), {high, std::byte{0x40}});
      }
    }
    codes.tensors[name + "_scale"] = scale;
  }
  plain.write(folder / "p");
  codes.write(folder / "q");
  for (const auto& [a, b] : {std::pair("q", "p"), std::pair("p", "q"), std::pair("q", "q")}) {
    const Words line = {"check", "--model", folder / a, "--against", folder / b};
    const Ended same = run(line + Words{"--dtype", "bfloat16"});
    EXPECT_EQ(same.code, 0) << a << b << same.all();
    const Ended silent = run(line);
    EXPECT_EQ(silent.code == 0, a == std::string_view(b)) << silent.all();
    EXPECT_EQ(silent.flat().find("--dtype bfloat16 compares the values") != std::string::npos,
              a != std::string_view(b))
        << silent.all();
  }
  const std::string changed = "model.layers.0.self_attn.k_proj.weight";
  std::swap(codes.tensors.at(changed + "_scale").bytes[0],
            codes.tensors.at(changed + "_scale").bytes[2]);  // of rows 0 and 1
  codes.write(folder / "q");
  const Ended other = run({"diff", folder / "q", folder / "p", "--dtype", "bfloat16"});
  EXPECT_EQ(other.code, 1) << other.all();
  EXPECT_NE(other.out.find(changed), std::string::npos) << other.out;
}

std::vector<std::byte> joined(std::vector<std::byte> a, const std::vector<std::byte>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// The experts of each layer in two stacks, as transformers 5 writes them.
EditedCheckpoint packed(const EditedCheckpoint& one_by_one) {
  EditedCheckpoint out{one_by_one.config, {}};
  const auto experts = one_by_one.config.at("num_local_experts").get<std::int64_t>();
  for (const auto& [name, tensor] : one_by_one.tensors) {
    const std::size_t at = name.find(".experts.");
    if (at == std::string::npos) {
      out.tensors[name] = tensor;
      continue;
    }
    const std::string layer = name.substr(0, at) + ".experts.";
    if (name != layer + "0.gate_proj.weight") {
      continue;
    }
    EditedTensor up{tensor.dtype, {experts, 2 * tensor.shape[0], tensor.shape[1]}, {}};
    EditedTensor down{tensor.dtype, {experts, tensor.shape[1], tensor.shape[0]}, {}};
    for (std::int64_t e = 0; e < experts; ++e) {
      const auto part = [&](const char* which) {
        return one_by_one.tensors.at(layer + std::to_string(e) + "." + which + "_proj.weight")
            .bytes;
      };
      up.bytes = joined(joined(std::move(up.bytes), part("gate")), part("up"));
      down.bytes = joined(std::move(down.bytes), part("down"));
    }
    out.tensors[layer + "gate_up_proj"] = std::move(up);
    out.tensors[layer + "down_proj"] = std::move(down);
  }
  return out;
}

TEST(AgainstInAnotherForm, ComparesTheElementsOfTheModel) {
  const TempFolder folder;
  ASSERT_EQ(run({"fixture", "make", "qwen3_moe", "--out", folder / "o"}).code, 0);
  const EditedCheckpoint one_by_one = EditedCheckpoint::read(folder / "o");
  EditedCheckpoint stacks = packed(one_by_one);
  ASSERT_NE(stacks.tensors, one_by_one.tensors);
  stacks.write(folder / "p");
  for (const auto& [a, b] : {std::pair("o", "p"), std::pair("p", "o")}) {
    for (const Words& line : {Words{"check", "--model", folder / a, "--against", folder / b},
                              Words{"diff", folder / a, folder / b}}) {
      const Ended same = run(line);
      EXPECT_EQ(same.code, 0) << same.all();
      EXPECT_NE(same.flat().find("stored in another form"), std::string::npos) << same.all();
      for (const char* dtype : {"bfloat16", "float32"}) {  // what B holds as A does stays as it is
        EXPECT_EQ(run(line + Words{"--dtype", dtype}).code, 0) << dtype;
      }
    }
  }
}

TEST(AgainstInAnotherForm, TakesACastWhereDtypeSaysIt) {
  const TempFolder folder;
  ASSERT_EQ(run({"fixture", "make", "qwen3_moe", "--out", folder / "o"}).code, 0);
  EditedCheckpoint stacks = packed(EditedCheckpoint::read(folder / "o"));
  for (auto& [name, tensor] : stacks.tensors) {
    tensor = in_float32(tensor);
  }
  stacks.write(folder / "p");
  const Words line = {"check", "--model", folder / "o", "--against", folder / "p"};
  EXPECT_EQ(run(line).code, 1);
  const Ended cast = run(line + Words{"--dtype", "float32"});
  EXPECT_EQ(cast.code, 0) << cast.all();
}

TEST(AgainstInAnotherForm, SeesOneElementOfAnExpertAndAnExpertThatIsNotThere) {
  const TempFolder folder;
  ASSERT_EQ(run({"fixture", "make", "qwen3_moe", "--out", folder / "o"}).code, 0);
  EditedCheckpoint one_by_one = EditedCheckpoint::read(folder / "o");
  packed(one_by_one).write(folder / "p");
  auto& last = one_by_one.tensors.at("model.layers.1.mlp.experts.3.up_proj.weight").bytes.back();
  last ^= std::byte{0x80};
  one_by_one.write(folder / "q");
  for (const auto& [a, b] : {std::pair("q", "p"), std::pair("p", "q")}) {
    const Ended other = run({"check", "--model", folder / a, "--against", folder / b});
    EXPECT_EQ(other.code, 1) << other.all();
    EXPECT_NE(other.out.find("decoder.layers.1.mlp.experts.linear_fc1.weight3"), std::string::npos)
        << other.all();
  }
  last ^= std::byte{0x80};
  one_by_one.tensors.erase("model.layers.1.mlp.experts.3.up_proj.weight");
  one_by_one.write(folder / "q");
  for (const auto& [a, b] : {std::pair("q", "p"), std::pair("p", "q")}) {
    const Ended other = run({"check", "--model", folder / a, "--against", folder / b});
    EXPECT_EQ(other.code, 1) << other.all();
  }
}

}  // namespace
}  // namespace bv::e2e
