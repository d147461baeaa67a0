// Loads a SavedModel as TF Serving does, and replays its warm-up requests.
//
//   replay MODEL DESCRIPTORS ANSWERS LIBRARY...
//
// MODEL is the folder of a version; DESCRIPTORS a serialized FileDescriptorSet with
// tensorflow.serving.PredictionLog; each LIBRARY one of tensorflow-text's operations. ANSWERS gets
// a TFRecord file of NamedTensorProto, each named REQUEST/OUTPUT.

#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "google/protobuf/descriptor.h"
#include "google/protobuf/descriptor.pb.h"
#include "google/protobuf/dynamic_message.h"
#include "tensorflow/c/c_api.h"
#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/lib/io/record_reader.h"
#include "tensorflow/core/lib/io/record_writer.h"
#include "tensorflow/core/platform/env.h"
#include "tensorflow/core/protobuf/named_tensor.pb.h"

namespace proto = google::protobuf;

namespace {

void Check(const absl::Status& status, const std::string& what) {
  if (!status.ok()) {
    std::cerr << what << ": " << status.ToString() << std::endl;
    std::exit(1);
  }
}

const proto::Message& Sub(const proto::Message& message, const std::string& field) {
  return message.GetReflection()->GetMessage(
      message, message.GetDescriptor()->FindFieldByName(field));
}

std::string Text(const proto::Message& message, const std::string& field) {
  return message.GetReflection()->GetString(
      message, message.GetDescriptor()->FindFieldByName(field));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) return 2;
  const std::string model = argv[1];
  tensorflow::Env* env = tensorflow::Env::Default();

  for (int i = 4; i < argc; ++i) {
    TF_Status* loaded = TF_NewStatus();
    TF_LoadLibrary(argv[i], loaded);
    if (TF_GetCode(loaded) != TF_OK) {
      std::cerr << TF_Message(loaded) << std::endl;
      return 1;
    }
    TF_DeleteStatus(loaded);
  }

  std::string bytes;
  Check(tensorflow::ReadFileToString(env, argv[2], &bytes), "descriptors");
  proto::FileDescriptorSet files;
  files.ParseFromString(bytes);
  proto::DescriptorPool pool;
  for (const auto& file : files.file()) pool.BuildFile(file);
  proto::DynamicMessageFactory factory(&pool);
  const proto::Message* prototype =
      factory.GetPrototype(pool.FindMessageTypeByName("tensorflow.serving.PredictionLog"));

  tensorflow::SavedModelBundle bundle;
  Check(tensorflow::LoadSavedModel(tensorflow::SessionOptions(), tensorflow::RunOptions(), model,
                                   {"serve"}, &bundle),
        "model");

  std::unique_ptr<tensorflow::RandomAccessFile> requests;
  Check(env->NewRandomAccessFile(model + "/assets.extra/tf_serving_warmup_requests", &requests),
        "requests");
  tensorflow::io::SequentialRecordReader reader(requests.get());
  std::unique_ptr<tensorflow::WritableFile> answers;
  Check(env->NewWritableFile(argv[3], &answers), "answers");
  tensorflow::io::RecordWriter writer(answers.get());

  tensorflow::tstring record;
  int number = 0;
  for (; reader.ReadRecord(&record).ok(); ++number) {
    std::unique_ptr<proto::Message> log(prototype->New());
    log->ParseFromString(std::string(record.data(), record.size()));
    const proto::Message& request = Sub(Sub(*log, "predict_log"), "request");
    const std::string signature = Text(Sub(request, "model_spec"), "signature_name");
    const auto& definition = bundle.meta_graph_def.signature_def().at(signature);

    std::vector<std::pair<std::string, tensorflow::Tensor>> inputs;
    const proto::FieldDescriptor* map = request.GetDescriptor()->FindFieldByName("inputs");
    for (int i = 0; i < request.GetReflection()->FieldSize(request, map); ++i) {
      const proto::Message& entry = request.GetReflection()->GetRepeatedMessage(request, map, i);
      tensorflow::TensorProto proto;
      proto.ParseFromString(Sub(entry, "value").SerializeAsString());
      tensorflow::Tensor tensor;
      if (!tensor.FromProto(proto)) return 1;
      inputs.emplace_back(definition.inputs().at(Text(entry, "key")).name(), tensor);
    }
    std::vector<std::string> keys, names;
    for (const auto& output : definition.outputs()) {
      keys.push_back(output.first);
      names.push_back(output.second.name());
    }
    std::vector<tensorflow::Tensor> outputs;
    Check(bundle.session->Run(inputs, names, {}, &outputs), signature);
    for (size_t i = 0; i < outputs.size(); ++i) {
      tensorflow::NamedTensorProto answer;
      answer.set_name(std::to_string(number) + "/" + keys[i]);
      outputs[i].AsProtoField(answer.mutable_tensor());
      Check(writer.WriteRecord(answer.SerializeAsString()), "answers");
    }
  }
  Check(writer.Close(), "answers");
  Check(answers->Close(), "answers");
  std::cout << number << " requests" << std::endl;
  return number > 0 ? 0 : 1;
}
