// Tensors of a dict by their names; none is left out in silence.

#include "core/pickle/state_dict.hpp"

#include <gtest/gtest.h>

#include "tests/core/pickle/small_archive.hpp"

namespace bv::pickle {
namespace {

const std::string kTensor = "ctorch._utils\n_rebuild_tensor_v2\n((" + pickled("storage") +
                            "ctorch\nFloatStorage\n" + pickled("0") + pickled("cpu") + pickled(2) +
                            "tQ" + pickled(0) + pickled_tuple(std::vector<int>{2}) +
                            pickled_tuple(std::vector<int>{1}) +
                            "\x89"
                            "ccollections\nOrderedDict\n)RtR";

/// A dict of the tensor "w" and of one more entry.
std::string file_with(const std::string& key, const std::string& value) {
  const std::string dict = "}(" + pickled("w") + kTensor + key + value + "u";
  return SmallArchive{{{"m/data.pkl", "\x80\x02" + dict + "."},
                       {"m/data/0", std::string(8, 'x')},
                       {"m/version", "3\n"}}}
      .bytes();
}

/// How many entries are left out, or what is wrong.
std::string read(const std::string& key, const std::string& value) {
  const std::string bytes = file_with(key, value);
  const auto file = open_torch_file(as_span(bytes), "f");
  const auto dict = file ? state_dict_of(*file) : Result<StateDict>(file.error());
  if (!dict) {
    EXPECT_EQ(dict.error().code, Code::PickleInvalid);
    return dict.error().message;
  }
  EXPECT_EQ(dict->tensors.size(), 1U);
  return std::to_string(dict->left_out);
}

TEST(StateDict, ATensorUnderAKeyThatIsNoTextIsRefusedByIt) {
  EXPECT_EQ(read(pickled(3), kTensor), "f: the key 3 of a tensor is not text");
  EXPECT_EQ(read("N", kTensor), "f: the key None of a tensor is not text");
  EXPECT_EQ(read("(" + pickled("a") + pickled("b") + "t", kTensor),
            "f: the key (a tuple) of a tensor is not text");
  EXPECT_EQ(read("C\x01x", kTensor), "f: the key b\"x\" of a tensor is not text");
}

TEST(StateDict, TensorsInAContainerAreRefusedByItsKey) {
  const std::string wanted = "f: the entry \"more\" holds tensors in a container";
  const std::string dict = "}" + pickled("x") + kTensor + "s";
  for (const std::string& value :
       {dict, "](" + kTensor + "e", "(" + kTensor + "t", "](" + dict + "e",
        "ccollections\nOrderedDict\n)R(" + pickled("x") + kTensor + "u"}) {
    EXPECT_EQ(read(pickled("more"), value), wanted);
  }
}

TEST(StateDict, WhatHoldsNoTensorIsCounted) {
  EXPECT_EQ(read(pickled("epoch"), pickled(3)), "1");
  EXPECT_EQ(read(pickled("args"), "}" + pickled("lr") + pickled(1) + "s"), "1");
  EXPECT_EQ(read(pickled("a._extra_state"), kTensor), "1");
  EXPECT_EQ(read(pickled("a._extra_state"), "](" + kTensor + "e"), "1");
}

TEST(StateDict, ATensorThatCannotBeReadIsNamed) {
  std::string bad = kTensor;
  bad.insert(bad.size() - 2, "}" + pickled("neg") + "\x88s");
  const std::string bytes = file_with(pickled("b"), bad);
  const auto file = open_torch_file(as_span(bytes), "f");
  ASSERT_TRUE(file);
  const auto dict = state_dict_of(*file);
  ASSERT_FALSE(dict);
  EXPECT_EQ(dict.error().facts, std::vector<std::string>{"it is \"b\""});
}

}  // namespace
}  // namespace bv::pickle
