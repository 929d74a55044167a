#pragma once
// The family of docs/howto/family-without-a-build.md, and a model of it.

#include "tests/e2e/process.hpp"

namespace bv::e2e {

/// The first block of JSON in the how-to.
inline std::string family_of_howto() {
  const std::string page = file_text(std::filesystem::path(BV_FIXTURES).parent_path() /
                                     "docs/howto/family-without-a-build.md");
  const std::size_t begin = page.find("```json\n") + 8;
  return page.substr(begin, page.find("```", begin) - begin);
}

inline std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

/// A GLM whose model_type, class and router have other names.
inline void make_lumen(const std::filesystem::path& folder) {
  const std::string glm = (folder.parent_path() / "glm").string();
  ASSERT_EQ(run({"fixture", "make", "glm4_moe", "--out", glm}).code, 0);
  EditedCheckpoint checkpoint = EditedCheckpoint::read(glm);
  checkpoint.config["model_type"] = "lumen_moe";
  checkpoint.config["architectures"] = {"LumenMoeForCausalLM"};
  std::map<std::string, EditedTensor> tensors;
  for (auto& [name, tensor] : checkpoint.tensors) {
    const bool router = name.find("mlp.gate.") != std::string::npos;
    tensors[router ? replaced(name, "mlp.gate.", "mlp.router.") : name] = std::move(tensor);
  }
  checkpoint.tensors = std::move(tensors);
  checkpoint.write(folder);
}

class Families : public testing::Test {
 protected:
  void SetUp() override {
    make_lumen(folder_.path() / "lumen");
    write(family_of_howto());
  }
  void write(const std::string& family, const std::string& name = "lumen_moe.json") {
    std::filesystem::create_directories(folder_.path() / "families");
    write_text(folder_.path() / "families" / name, family);
  }
  Ended check(std::vector<std::string> more = {}) const {
    std::vector<std::string> line = {"check", "--model", folder_ / "lumen", "--families",
                                     folder_ / "families"};
    line.insert(line.end(), more.begin(), more.end());
    return run(line);
  }
  /// The claim forward alone, on the family with one statement changed.
  Ended forward_with(const std::string& from, const std::string& to) {
    write(replaced(family_of_howto(), from, to));
    return check({"--only", "forward", "--tp", "2"});
  }

  TempFolder folder_;
};

}  // namespace bv::e2e
