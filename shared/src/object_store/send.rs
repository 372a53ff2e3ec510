//! Sends the SDK's requests, each by a function that is compiled here and nowhere else (see [`crate::boxed`]).

use aws_sdk_s3::error::SdkError;

use crate::boxed::Boxed;

macro_rules! operations {
    ($($name:ident: $request:ident -> $answer:ident or $error:ident;)*) => {$(
        #[inline(never)]
        pub(super) fn $name(
            request: aws_sdk_s3::operation::$name::builders::$request,
        ) -> Boxed<'static, Result<aws_sdk_s3::operation::$name::$answer, SdkError<aws_sdk_s3::operation::$name::$error>>>
        {
            Box::pin(request.send())
        }
    )*};
}

operations! {
    put_object: PutObjectFluentBuilder -> PutObjectOutput or PutObjectError;
    get_object: GetObjectFluentBuilder -> GetObjectOutput or GetObjectError;
    head_object: HeadObjectFluentBuilder -> HeadObjectOutput or HeadObjectError;
    list_objects_v2: ListObjectsV2FluentBuilder -> ListObjectsV2Output or ListObjectsV2Error;
    copy_object: CopyObjectFluentBuilder -> CopyObjectOutput or CopyObjectError;
    delete_object: DeleteObjectFluentBuilder -> DeleteObjectOutput or DeleteObjectError;
}
