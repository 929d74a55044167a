// Layouts that what builds a model does not build.

#include "core/plan/legality.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/model/resolve.hpp"
#include "tests/support/files.hpp"
#include "tests/support/library.hpp"

namespace bv::plan {
namespace {

using testing::Each;
using testing::Field;
using testing::HasSubstr;

model::Model of_fixture(const std::string& name) {
  const nlohmann::json config =
      support::read_json(BV_FIXTURES "/configs/" + name + ".json").at("config");
  model::ResolveOptions options;
  options.config_only = true;
  return model::resolve(model::choose_family(config, support::families()).value(), config, {},
                        options)
      .value();
}

parallel::Layout stages(std::int64_t pp) {
  parallel::Layout out;
  out.pp = pp;
  out.vocab_divisor = 1;
  return out;
}

TEST(Legality, ADenseGemma4IsBuiltInOnePipelineStage) {
  for (const auto& [name, pp] : {std::pair{"gemma4_text", 2}, std::pair{"gemma4", 3}}) {
    const model::Model model = of_fixture(name);
    EXPECT_TRUE(check_layout(model, stages(1))) << name;
    const Status refused = check_layout(model, stages(pp));
    ASSERT_FALSE(refused) << name;
    EXPECT_THAT(refused.error().message,
                HasSubstr("on a model that is built in one pipeline stage"));
    EXPECT_THAT(refused.error().facts.front(), HasSubstr("Gemma4DenseProvider"));
    EXPECT_THAT(legal_layouts(model, stages(1), 8), Each(Field(&parallel::Layout::pp, 1)));
  }
  parallel::Layout alone = stages(2);  // the embedding on a stage of its own
  alone.pipeline_layout = "E|" + std::string(6, 't') + "L";
  EXPECT_FALSE(check_layout(of_fixture("gemma4_text"), alone));
  EXPECT_TRUE(check_layout(of_fixture("gemma4_text.experts"), stages(3)));
}

}  // namespace
}  // namespace bv::plan
